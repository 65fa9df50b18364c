"""A proxy that lets a request through and then loses its reply, once."""

import http.client
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# Requests by method and path.
COMMIT = re.compile(r"POST .*(/transactions/commit|/namespaces/[^/]+/tables/[^/]+)$")
CREATE = re.compile(r"POST .*/namespaces/[^/]+/tables$")
CHANGE = re.compile(r"(POST|DELETE) .*/v1/[^/]+/(namespaces|tables|transactions)\b(?!.*/metrics$)")
CUT = "cut"
FAULTS = [CUT, 500, 502, 503, 504, 429, 409]
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


class FaultProxy:
    """Forwards to `upstream` (host:port). After `lose_next(fault)`, the reply to the next commit, or
    to the next request of the kind `what`, is replaced: the connection is cut, or a status is
    answered that the server never said."""

    def __init__(self, upstream):
        self.upstream = upstream
        self.lock = threading.Lock()
        self.armed = None
        self.what = COMMIT
        self.lost = []  # what the server had answered where the reply was lost
        self.commits = []  # what the client was answered to each of them: a status or CUT

    def __enter__(self):
        proxy = self

        class Handler(_Handler):
            owner = proxy

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    @property
    def address(self):
        return f"127.0.0.1:{self.server.server_port}"

    def lose_next(self, fault, what=COMMIT):
        with self.lock:
            self.armed, self.what, self.lost, self.commits = fault, what, [], []

    def take(self, command, path, status):
        """The fault for a request that the server answered with `status`, if one is armed."""
        with self.lock:
            if not self.what.match(f"{command} {path.split('?')[0]}"):
                return None
            fault, self.armed = self.armed, None
            if fault is not None:
                self.lost.append(status)
            self.commits.append(status if fault is None else fault)
            return fault


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner = None

    def log_message(self, *_):
        pass

    def forward(self):
        length = int(self.headers.get("content-length") or 0)
        if "chunked" in (self.headers.get("transfer-encoding") or ""):
            body = self.read_chunks()
        else:
            body = self.rfile.read(length)
        upstream = http.client.HTTPConnection(self.owner.upstream, timeout=60)
        # The Host header stays the client's: it is part of its signature.
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in HOP_BY_HOP:
                upstream.putheader(name, value)
        if body or self.command in ("POST", "PUT"):
            upstream.putheader("content-length", str(len(body)))
        upstream.endheaders(body)
        answer = upstream.getresponse()
        content = answer.read()
        upstream.close()
        fault = self.owner.take(self.command, self.path, answer.status)
        if fault == CUT:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if fault is not None:
            self.reply(fault, [("content-type", "text/plain")], b"made up by the proxy")
        else:
            self.reply(answer.status, answer.getheaders(), content)

    def reply(self, status, headers, content):
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        # An answer to HEAD, and one without content, has no length of its own to give.
        if status not in (204, 304) and self.command != "HEAD":
            self.send_header("content-length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def read_chunks(self):
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = forward
