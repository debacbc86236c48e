"""A web server on loopback with files in memory, for `url:` sources and what can go wrong with them."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.sources.loopback import running


class Files(ThreadingHTTPServer):
    """Serve `files` by path, answer others 404, redirect those of `redirections`, and log what is asked for."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.files = files
        self.redirections: dict[str, str] = {}
        self.announced: int | None = None  # instead of the true size
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Answer(BaseHTTPRequestHandler):
    server: Files

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        target, body = self.server.redirections.get(self.path), self.server.files.get(self.path)
        self.send_response(302 if target else 200 if body is not None else 404)
        if target:
            self.send_header("Location", target)
        size = len(body or b"") if self.server.announced is None else self.server.announced
        self.send_header("Content-Length", str(size))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[Files]:
    """Serve for the block."""
    with Files(files) as server, running(server):
        yield server
