"""A package index on loopback that stops in the middle of a wheel until it is told to go on."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.sources.loopback import running


class Index(ThreadingHTTPServer):
    """Serve the wheels of `folder` as PEP 503 says; half of each, and the rest once `go_on` is set."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.folder = folder
        self.go_on = threading.Event()
        self.halfway = threading.Semaphore(0)  # released once for every wheel that is halfway

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/simple"


class _Answer(BaseHTTPRequestHandler):
    server: Index

    def do_GET(self) -> None:
        wheel = self.server.folder / Path(self.path).name
        page = "".join(f'<a href="/{path.name}">{path.name}</a>' for path in sorted(self.server.folder.iterdir()))
        body = wheel.read_bytes() if wheel.suffix == ".whl" else f"<!DOCTYPE html><html>{page}</html>".encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream" if wheel.suffix == ".whl" else "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        half = len(body) // 2 if wheel.suffix == ".whl" else 0
        if half:
            self.wfile.write(body[:half])
            self.server.halfway.release()
            self.server.go_on.wait(timeout=120)
        try:
            self.wfile.write(body[half:])
        except OSError:
            pass  # whoever asked is dead by now, as the tests want it

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(folder: Path) -> Iterator[Index]:
    """Serve for the block."""
    with Index(folder) as index, running(index):
        try:
            yield index
        finally:
            index.go_on.set()
