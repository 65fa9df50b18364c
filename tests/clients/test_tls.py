"""Real clients over TLS, with a private authority and certificates that are replaced in use."""

import os
import pathlib
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time

import floeberg_node
import pytest
from private_authority import PrivateAuthority

ACCESS_KEY, SECRET_KEY = "TLSROOTKEY", "a-secret-of-a-test-only"
PATIENCE = 30


def free_ports(count):
    """Ports that are free now; the configuration file takes no port 0."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class SecureNode(floeberg_node.Node):
    """A `floeberg server` that is a cluster by itself and speaks TLS on both client ports."""

    def __init__(self, binary, data_dir, authority):
        super().__init__(binary, data_dir)
        self.authority = authority
        self.certificate = self.data_dir / "tls.crt"
        self.key = self.data_dir / "tls.key"

    def start(self):
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.install("first")
        self.lakehouse, s3, peer = free_ports(3)
        config = self.data_dir / "floeberg.toml"
        config.write_text(
            f'[data]\ndir = "{self.data_dir}/data"\n[peer]\nlisten = "127.0.0.1:{peer}"\n'
            f'[lakehouse]\nlisten = "127.0.0.1:{self.lakehouse}"\n'
            f'[s3]\nlisten = "127.0.0.1:{s3}"\n'
            f'[tls]\ncert = "{self.certificate}"\nkey = "{self.key}"\n'
            '[limits]\nvolume_segment = "64 MiB"\n'
        )
        environment = {**os.environ, "FLOEBERG_ROOT_ACCESS_KEY": ACCESS_KEY,
                       "FLOEBERG_ROOT_SECRET_KEY": SECRET_KEY}
        made = [self.binary, "cluster", "init", "--config", str(config)]
        subprocess.run(made, check=True, capture_output=True, env=environment)
        with open(self.data_dir / "node.log", "ab") as log:
            self.process = subprocess.Popen(
                [self.binary, "server", "--config", str(config)], stdout=log, stderr=log,
                env=environment,
            )
        self.s3tables_uri = f"https://127.0.0.1:{self.lakehouse}"
        self.catalog_uri, self.s3_uri = f"{self.s3tables_uri}/iceberg", f"https://127.0.0.1:{s3}"
        self.region, self.account = "us-east-1", "000000000000"
        self.access_key, self.secret_key = ACCESS_KEY, SECRET_KEY
        wait_for(self.is_ready, lambda: self.log())

    def is_ready(self):
        import urllib.request

        context = ssl.create_default_context(cafile=self.authority.ca)
        assert self.process.poll() is None, self.log()
        try:
            return urllib.request.urlopen(f"{self.s3tables_uri}/readyz", context=context).status == 200
        except OSError:
            return False

    def install(self, name):
        """Puts a new certificate into place as tools do: each file by a rename."""
        for path, text in zip((self.certificate, self.key), self.authority.issue(name)):
            draft = path.with_suffix(".draft")
            draft.write_text(text)
            draft.rename(path)

    def hang_up(self):
        self.process.send_signal(signal.SIGHUP)

    def subject(self):
        """The name in the certificate that a new connection is shown."""
        context = ssl.create_default_context(cafile=self.authority.ca)
        with socket.create_connection(("127.0.0.1", self.lakehouse), timeout=10) as plain:
            with context.wrap_socket(plain, server_hostname="127.0.0.1") as secured:
                return secured.getpeercert()["subject"][0][0][1]

    def boto3(self, service):
        import boto3
        from botocore.config import Config

        # One attempt: what a replaced certificate breaks must show.
        config = Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"},
                        signature_version="s3v4")
        return boto3.client(
            service, endpoint_url=self.s3_uri if service == "s3" else self.s3tables_uri,
            region_name=self.region, aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY, verify=str(self.authority.ca), config=config,
        )


def wait_for(reached, why):
    deadline = time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < deadline, why()
        time.sleep(0.05)


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    folder = tmp_path_factory.mktemp("secure")
    authority = PrivateAuthority(folder / "authority")
    with SecureNode(os.environ["FLOEBERG_BIN"], folder / "node", authority) as node:
        node.boto3("s3tables").create_table_bucket(name="lake")
        node.boto3("s3").create_bucket(Bucket="files")
        yield node


PYICEBERG = """
import pyarrow, sys
sys.path.insert(0, sys.argv[1])
from pyiceberg.catalog import load_catalog

catalog = load_catalog(
    "secure", type="rest", uri=sys.argv[2], warehouse="lake", ssl={"cabundle": sys.argv[3]},
    **{"rest.sigv4-enabled": "true", "rest.signing-name": "s3tables",
       "rest.signing-region": "us-east-1", "client.region": "us-east-1",
       "client.access-key-id": sys.argv[4], "client.secret-access-key": sys.argv[5]},
)
rows = pyarrow.table({"id": pyarrow.array(range(1000), pyarrow.int64())})
catalog.create_namespace("ns")
table = catalog.create_table("ns.t", schema=rows.schema)
table.append(rows)
table.append(rows)
assert catalog.load_table("ns.t").scan().to_arrow().num_rows == 2000
"""


def test_pyiceberg_and_duckdb(secure):
    # Its file system takes the authority from the environment, and only when it starts.
    done = subprocess.run(
        [sys.executable, "-c", PYICEBERG, str(pathlib.Path(__file__).parent), secure.catalog_uri,
         str(secure.authority.ca), ACCESS_KEY, SECRET_KEY],
        capture_output=True, text=True,
        # A bundle in the environment goes before `ssl`, and a machine may have one there.
        env={**{k: v for k, v in os.environ.items() if not k.endswith("_CA_BUNDLE")},
             "SSL_CERT_FILE": str(secure.authority.ca)},
    )
    assert done.returncode == 0, done.stderr
    duckdb = floeberg_node.plain_duckdb(extensions=("avro", "httpfs", "iceberg"))
    duckdb.execute(f"SET ca_cert_file = '{secure.authority.ca}'")
    duckdb.execute("SET enable_server_cert_verification = true")
    duckdb.execute(
        f"""CREATE SECRET floeberg (TYPE iceberg, CLIENT_ID '{ACCESS_KEY}',
            CLIENT_SECRET '{SECRET_KEY}',
            OAUTH2_SERVER_URI '{secure.catalog_uri}/v1/oauth/tokens')"""
    )
    duckdb.execute(
        f"ATTACH 'lake' AS lake (TYPE iceberg, SECRET floeberg, ENDPOINT '{secure.catalog_uri}')"
    )
    assert duckdb.execute("SELECT count(*), sum(id) FROM lake.ns.t").fetchone() == (2000, 999000)
    duckdb.execute("CREATE TABLE lake.ns.d AS SELECT range AS n FROM range(100)")
    assert duckdb.execute("SELECT sum(n) FROM lake.ns.d").fetchone() == (4950,)


def test_the_command_line_trusts_what_it_is_told(secure):
    def cli(*words, endpoint=secure.s3tables_uri, **environment):
        return subprocess.run(
            [secure.binary, "bucket", "list", "--endpoint", endpoint, *words],
            capture_output=True, text=True,
            env={**os.environ, "FLOEBERG_ROOT_ACCESS_KEY": ACCESS_KEY,
                 "FLOEBERG_ROOT_SECRET_KEY": SECRET_KEY, **environment},
        )

    ca = str(secure.authority.ca)
    for done in (cli("--ca", ca), cli(FLOEBERG_CA=ca), cli(SSL_CERT_FILE=ca)):
        assert done.returncode == 0 and "lake" in done.stdout, done.stderr
    stranger = str(PrivateAuthority(secure.data_dir / "stranger").ca)
    refused = cli("--ca", stranger)
    assert refused.returncode == 1, refused.stdout
    assert "invalid peer certificate" in refused.stderr and "--ca" in refused.stderr, refused.stderr
    missing = cli("--ca", "/nowhere.pem")
    assert "/nowhere.pem" in missing.stderr and "--ca" in missing.stderr, missing.stderr
    plain = cli(endpoint=secure.s3tables_uri.replace("https", "http"))
    assert plain.returncode == 1 and "https://" in plain.stderr, plain.stderr


def test_a_certificate_is_replaced_in_use_and_a_broken_one_is_not(secure):
    failures, done, calls = [], threading.Event(), [0]

    def work(number):
        while not done.is_set():
            try:
                # A client each time: new connections are what meets a new certificate.
                s3 = secure.boto3("s3")
                s3.put_object(Bucket="files", Key=f"k{number}", Body=b"x" * 1000)
                assert s3.get_object(Bucket="files", Key=f"k{number}")["Body"].read() == b"x" * 1000
                calls[0] += 1
            except Exception as error:  # noqa: BLE001
                failures.append(error)
                return

    workers = [threading.Thread(target=work, args=(n,)) for n in range(2)]
    for worker in workers:
        worker.start()
    try:
        secure.install("second")
        # Nobody says so: the node looks by itself.
        wait_for(lambda: secure.subject() == "second", secure.log)
        secure.install("third")
        secure.hang_up()
        wait_for(lambda: secure.subject() == "third", secure.log)
        kept = secure.certificate.read_text()
        secure.certificate.write_text("not a certificate")
        secure.hang_up()
        errors = lambda: re.findall(r"ERROR.*keeps its old certificate", secure.log())  # noqa: E731
        wait_for(lambda: errors(), secure.log)
        before = calls[0]
        wait_for(lambda: calls[0] > before + 5 or failures, secure.log)
        secure.hang_up()
        assert secure.subject() == "third" and len(errors()) == 1
        secure.certificate.write_text(kept)
        secure.install("fourth")
        secure.hang_up()
        wait_for(lambda: secure.subject() == "fourth", secure.log)
    finally:
        done.set()
        for worker in workers:
            worker.join()
    assert not failures and calls[0] > 0, failures


def test_a_node_that_stops_says_so(tmp_path):
    import http.client

    authority = PrivateAuthority(tmp_path / "authority")
    node = SecureNode(os.environ["FLOEBERG_BIN"], tmp_path / "node", authority)
    node.start()
    context = ssl.create_default_context(cafile=authority.ca)
    kept = http.client.HTTPSConnection("127.0.0.1", node.lakehouse, context=context)

    def ready():
        kept.request("GET", "/readyz")
        answer = kept.getresponse()
        return answer.status, answer.headers.get("connection"), answer.read()

    assert ready()[:2] == (200, None)
    node.process.send_signal(signal.SIGTERM)
    # The connection of a client that goes on is answered, and ends with that answer.
    while (answer := ready())[0] == 200:
        pass
    assert answer[0] == 503 and answer[1] == "close" and b"stopping" in answer[2], answer
    assert node.process.wait(timeout=30) == 0, node.log()
