"""One node for the whole run; every test uses names of its own."""

import os
import pathlib
import re
import sys
import uuid

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import floeberg_node  # noqa: E402


@pytest.fixture(scope="session")
def node(tmp_path_factory):
    binary = os.environ.get("FLOEBERG_BIN")
    assert binary, "FLOEBERG_BIN must name the binary: run `make test`"
    with floeberg_node.Node(binary, tmp_path_factory.mktemp("node")) as running:
        yield running
        log = running.log()
    unexpected = [line for line in log.splitlines() if re.search(r"\b(WARN|ERROR)\b", line)]
    assert not unexpected, unexpected


@pytest.fixture
def bucket(node):
    """A new table bucket."""
    name = f"b-{uuid.uuid4().hex[:12]}"
    node.boto3("s3tables").create_table_bucket(name=name)
    return name


@pytest.fixture
def s3_bucket(node):
    """A new general purpose bucket."""
    name = f"s-{uuid.uuid4().hex[:12]}"
    node.boto3("s3").create_bucket(Bucket=name)
    return name
