"""A real HTTP proxy on loopback before a real MLflow server, which breaks what passes through it when it is told to."""

import http.client
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.sources.loopback import running

OUTAGES = ("500", "hang", "reset", "cut")
AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends a reset
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "te", "trailer", "upgrade"}


class Proxy(ThreadingHTTPServer):
    """Hands requests to the server on `upstream` until an outage begins.

    "500" answers so and "reset" resets the connection; neither asks the server. "cut" lets the server do what is asked
    and hands on half of its answer. "hang" says nothing until the outage is over, and only then lets the server do what
    was asked, as one does that was stopped: by then nobody waits for it any more.
    """

    daemon_threads = True

    def __init__(self, upstream: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.upstream = upstream
        self.asked: list[str] = []  # paths, those that were broken off too
        self._outage: str | None = None
        self._path = ""
        self._over = threading.Event()

    @property
    def uri(self) -> str:
        """Return where clients reach the proxy."""
        return f"http://127.0.0.1:{self.server_port}"

    def begin(self, outage: str, path: str = "") -> None:
        """Begin an outage with the next request whose path contains `path`; from there on it takes everything."""
        assert outage in OUTAGES
        self._over.clear()
        self._outage, self._path = outage, path

    def end(self) -> None:
        """End the outage."""
        self._outage = None
        self._over.set()

    def outage(self, path: str) -> str | None:
        """Return the outage that takes this request, None where there is none."""
        self.asked.append(path)
        if self._outage is None or self._path not in path:
            return None
        self._path = ""
        return self._outage

    def wait(self) -> None:
        """Wait until the outage is over."""
        self._over.wait()

    def handle_error(self, *_: Any) -> None:
        """Say nothing of a client that has gone."""


class Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    server: Proxy

    def handle_one_request(self) -> None:
        """Hand one request on, or break it."""
        with suppress(ConnectionError):
            super().handle_one_request()

    def do_GET(self) -> None:
        """Answer a request of any method."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        outage = self.server.outage(self.path)
        if outage == "500":
            self.answer(500, [], b'{"error_code": "INTERNAL_ERROR"}')
        elif outage == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
            self.close_connection = True
            self.connection.close()
        else:
            if outage == "hang":
                self.server.wait()
            status, headers, content = self.ask(body)
            self.answer(status, headers, content, whole=outage != "cut")

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        """Let the server do what is asked, and return its answer."""
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.upstream, timeout=120)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
            upstream.request(self.command, self.path, body, headers)
            answer = upstream.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        except ConnectionError:
            return 502, [], b""
        finally:
            upstream.close()

    def answer(self, status: int, headers: list[tuple[str, str]], content: bytes, whole: bool = True) -> None:
        """Send an answer, or its head and half of its body."""
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content if whole else content[: len(content) // 2])
        if not whole:
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def proxied(upstream: int) -> Iterator[Proxy]:
    """Yield a proxy before the server that listens on the loopback port `upstream`."""
    with Proxy(upstream) as proxy, running(proxy):
        try:
            yield proxy
        finally:
            proxy.end()
