"""A model hub on loopback: the HEAD and GET of `resolve` that huggingface_hub 2.4 makes, over files in memory."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_RESOLVE = re.compile(r"/(?P<repo>(?:datasets/)?[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")


Reply = tuple[int, dict[str, str], bytes]


class Hub(ThreadingHTTPServer):
    """Serve `files` ("OWNER/NAME/FILE" to content) at COMMIT, answer any other commit as missing, log requests."""

    def __init__(self, files: dict[str, bytes], gated: frozenset[str] = frozenset()) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.files = files
        self.gated = gated
        self.requests: list[str] = []
        self.tokens: set[str] = set()
        # What is said instead: "HEAD OWNER/NAME/FILE" or "GET …" to status, headers and body; a header replaces ours.
        self.replies: dict[str, Reply] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, method: str, path: str) -> Reply:
        """Return status, headers and body for one request."""
        match = _RESOLVE.fullmatch(path)
        reply = self.replies.get(f"{method} {match['repo']}/{match['file']}") if match else None
        if reply is not None:
            return reply
        if match is None or not any(name.startswith(f"{match['repo']}/") for name in self.files):
            return 401, {"X-Error-Code": "RepoNotFound"}, b""
        if match["repo"] in self.gated:
            return 403, {"X-Error-Code": "GatedRepo"}, b""
        if match["revision"] != COMMIT:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        content = self.files.get(f"{match['repo']}/{match['file']}")
        if content is None:
            return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}, b""
        return 200, {"X-Repo-Commit": COMMIT, "ETag": f'"{abs(hash(content)):x}"'}, content


class _Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        self.server.tokens.add(self.headers.get("Authorization", ""))
        status, headers, body = self.server.answer(self.command, self.path)
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            if value:  # an empty one says that it is not sent at all
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve for the block."""
    with hub:
        thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()
