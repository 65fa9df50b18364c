"""Starts a node for tests and the demo, and hands out real clients that are connected to it."""

import json
import os
import pathlib
import signal
import subprocess
import sysconfig
import time

READY_SECONDS = 60


class Node:
    """A `floeberg dev` process on free loopback ports. Ends only the process it started."""

    def __init__(self, binary, data_dir, keep=False, environment=None):
        self.binary = str(binary)
        self.data_dir = pathlib.Path(data_dir)
        self.keep = keep
        self.environment = environment or {}
        self.process = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        if not self.keep:
            self.stop()

    def start(self, port=0, s3_port=0):
        self.data_dir.mkdir(parents=True, exist_ok=True)
        ready = self.data_dir / "ready.json"
        ready.unlink(missing_ok=True)
        log = open(self.data_dir / "node.log", "ab")
        self.process = subprocess.Popen(
            [self.binary, "dev", "--data-dir", str(self.data_dir / "node"), "--port", str(port),
             "--s3-port", str(s3_port), "--ready-file", str(ready)],
            stdout=log, stderr=log, env={**os.environ, **self.environment},
            start_new_session=self.keep,
        )
        log.close()
        deadline = time.monotonic() + READY_SECONDS
        while not ready.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the node did not start:\n" + self.log())
            time.sleep(0.02)
        found = json.loads(ready.read_text())
        self.catalog_uri = found["iceberg_uri"]
        self.s3tables_uri = found["s3tables_uri"]
        self.s3_uri = found["s3_uri"]
        self.region = found["region"]
        self.account = found["account"]
        self.access_key = found["access_key"]
        self.secret_key = found["secret_key"]

    def log(self):
        return (self.data_dir / "node.log").read_text(errors="replace")[-20_000:]

    def stop(self):
        """Asks the node to stop and returns its exit code."""
        if self.process is None:
            return None
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=60)
        self.process = None
        return code

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process = None

    def cli_flags(self):
        return f"--endpoint {self.s3tables_uri}"

    def cli(self, *arguments, check=True):
        """Runs a subcommand against this node and returns its standard output."""
        done = subprocess.run(
            [self.binary, *arguments, "--endpoint", self.s3tables_uri],
            capture_output=True, text=True,
            env={**os.environ, "FLOEBERG_ROOT_ACCESS_KEY": self.access_key,
                 "FLOEBERG_ROOT_SECRET_KEY": self.secret_key},
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"floeberg {arguments} failed: {done.stderr}")
        return done if not check else done.stdout

    def warehouse(self, bucket):
        return f"arn:aws:s3tables:{self.region}:{self.account}:bucket/{bucket}"

    def pyiceberg(self, bucket, **properties):
        """PyIceberg with SigV4 and the storage settings that the catalog hands out."""
        from pyiceberg.catalog import load_catalog

        settings = {
            "type": "rest", "uri": self.catalog_uri, "warehouse": self.warehouse(bucket),
            "rest.sigv4-enabled": "true", "rest.signing-name": "s3tables",
            "rest.signing-region": self.region, "client.region": self.region,
            "client.access-key-id": self.access_key,
            "client.secret-access-key": self.secret_key,
        }
        return load_catalog("floeberg", **{**settings, **properties})

    def duckdb(self, bucket):
        """DuckDB with the bucket attached as `lake`, authenticated by client credentials."""
        connection = plain_duckdb(extensions=("avro", "httpfs", "iceberg"))
        connection.execute(
            f"""CREATE SECRET floeberg (TYPE iceberg, CLIENT_ID '{self.access_key}',
                CLIENT_SECRET '{self.secret_key}',
                OAUTH2_SERVER_URI '{self.catalog_uri}/v1/oauth/tokens')"""
        )
        connection.execute(
            f"ATTACH '{bucket}' AS lake (TYPE iceberg, SECRET floeberg, ENDPOINT '{self.catalog_uri}')"
        )
        return connection

    def boto3(self, service):
        import boto3
        from botocore.config import Config

        endpoint = self.s3_uri if service == "s3" else self.s3tables_uri
        options = {"s3": {"addressing_style": "path"}, "signature_version": "s3v4"}
        return boto3.client(
            service, endpoint_url=endpoint, region_name=self.region,
            aws_access_key_id=self.access_key, aws_secret_access_key=self.secret_key,
            config=Config(**options) if service == "s3" else None,
        )


def plain_duckdb(extensions=()):
    """DuckDB that loads the signed extensions of its wheels and asks no server for them."""
    import duckdb

    connection = duckdb.connect(config={
        "autoinstall_known_extensions": "false", "autoload_known_extensions": "false",
    })
    site = sysconfig.get_paths()["purelib"]
    for name in extensions:
        folder = pathlib.Path(site) / f"duckdb_extension_{name}" / "extensions"
        path = next(folder.glob(f"*/{name}.duckdb_extension"))
        connection.execute(f"LOAD '{path}'")
    return connection
