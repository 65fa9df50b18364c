"""Starting, stopping and failing well."""

import os
import socket
import subprocess

import floeberg_node
import pytest


@pytest.fixture
def binary():
    return os.environ["FLOEBERG_BIN"]


def test_data_survives_a_stop_and_a_kill(binary, tmp_path):
    import pyarrow

    data = pyarrow.table({"id": pyarrow.array(range(10), pyarrow.int64())})
    node = floeberg_node.Node(binary, tmp_path)
    node.start()
    node.cli("bucket", "create", "lake")
    catalog = node.pyiceberg("lake")
    catalog.create_namespace("ns")
    catalog.create_table("ns.t", schema=data.schema).append(data)
    assert node.stop() == 0
    node.start()
    table = node.pyiceberg("lake").load_table("ns.t")
    table.append(data)
    node.kill()
    node.start()
    assert node.pyiceberg("lake").load_table("ns.t").scan().to_arrow().num_rows == 20
    assert node.stop() == 0


def test_a_taken_port_and_a_used_directory_are_explained(node, binary, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run([binary, "dev", "--data-dir", tmp_path / "x", "--port", str(port),
                               "--s3-port", "0"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "is taken" in done.stderr and "--port" in done.stderr
    done = subprocess.run([binary, "dev", "--data-dir", node.data_dir / "node", "--port", "0",
                           "--s3-port", "0"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "in use" in done.stderr


def test_subcommands(node, bucket):
    import json

    node.cli("namespace", "create", bucket, "sales")
    assert "sales" in node.cli("namespace", "list", bucket)
    listed = json.loads(node.cli("bucket", "list", "--json"))
    assert bucket in [b["name"] for b in listed]
    assert json.loads(node.cli("table", "list", bucket, "sales", "--json")) == []
    failed = node.cli("table", "show", bucket, "sales", "none", check=False)
    assert failed.returncode == 1 and "does not exist" in failed.stderr


def test_a_wrong_key_is_explained(node, binary):
    done = subprocess.run([binary, "bucket", "list", "--endpoint", node.s3tables_uri],
                          capture_output=True, text=True,
                          env={**os.environ, "FLOEBERG_ROOT_ACCESS_KEY": "NOBODY",
                               "FLOEBERG_ROOT_SECRET_KEY": "not-the-secret"})
    assert done.returncode == 1 and "FLOEBERG_ROOT_ACCESS_KEY" in done.stderr


def test_health_metrics_and_anonymous_refusals(node):
    import urllib.error
    import urllib.request

    for path in ["/healthz", "/readyz", "/metrics", "/"]:
        assert urllib.request.urlopen(node.s3tables_uri + path).status == 200
    page = urllib.request.urlopen(node.s3tables_uri + "/metrics").read().decode()
    assert "floeberg_raft_log_fsyncs_total" in page
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(node.catalog_uri + "/v1/config")
    assert refused.value.code in (401, 403) and refused.value.headers["x-request-id"]
