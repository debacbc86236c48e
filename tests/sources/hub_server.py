"""A model hub on loopback: the HEAD and GET of `resolve` that huggingface_hub 2.4 makes, over files in memory.

As on the real one, a large file (here *.safetensors and *.ckpt) is a redirection to a storage, with its true SHA-256 as
X-Linked-ETag; a gated repository is 401 without a token and 403 with one; and a part can be asked for (Range).
"""

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.sources.loopback import running

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = (".safetensors", ".ckpt")
_NAME = r"(?P<repo>(?:datasets/)?[^/]+/[^/]+)"
_RESOLVE = re.compile(rf"/{_NAME}/resolve/(?P<revision>[^/]+)/(?P<file>.+)")
SIGNATURE = "X-Signature=forNobodyElse"  # a storage gives a file to whoever has its address
_STORAGE = re.compile(rf"/storage/{_NAME}/(?P<file>.+)\?{SIGNATURE}")
_RANGE = re.compile(r"bytes=(\d+)-")

Reply = tuple[int, dict[str, str], bytes]


class Hub(ThreadingHTTPServer):
    """Serve `files` ("OWNER/NAME/FILE" to content) at COMMIT, answer any other commit as missing, log requests."""

    def __init__(self, files: dict[str, bytes], gated: frozenset[str] = frozenset()) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.files = files
        self.gated = gated
        self.releases: dict[str, bytes] = {}  # files that are no repository's, at /releases/NAME
        self.requests: list[str] = []
        self.tokens: set[str] = set()
        # What is said instead: "HEAD OWNER/NAME/FILE" or "GET …" to status, headers and body; a header replaces ours.
        self.replies: dict[str, Reply] = {}
        # After how many bytes of a body the connection is cut: one number for each of the next GETs of a file.
        self.cuts: list[int] = []
        self.knows_ranges = True
        self.ranges: list[str] = []  # that were asked for
        self.stops = False  # in the middle of a large file, until told to go on
        self.halfway = threading.Semaphore(0)  # released once for every large file that is halfway
        self.go_on = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def storage(self) -> str:
        return f"http://localhost:{self.server_port}/storage"  # another host than the hub's, as in truth

    def answer(self, method: str, path: str, signed_in: bool = True) -> Reply:
        """Return status, headers and body for one request."""
        stored = _STORAGE.fullmatch(path)
        if stored is not None:
            return 200, {}, self.files[f"{stored['repo']}/{stored['file']}"]
        if path.startswith("/releases/"):
            return 200, {}, self.releases[path.removeprefix("/releases/")]
        match = _RESOLVE.fullmatch(path)
        reply = self.replies.get(f"{method} {match['repo']}/{match['file']}") if match else None
        if reply is not None:
            return reply
        if match is None or not any(name.startswith(f"{match['repo']}/") for name in self.files):
            return 401, {"X-Error-Code": "RepoNotFound"}, b""
        if match["repo"] in self.gated:
            return 403 if signed_in else 401, {"X-Error-Code": "GatedRepo"}, b""
        if match["revision"] not in (COMMIT, "main"):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        content = self.files.get(f"{match['repo']}/{match['file']}")
        if content is None:
            return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}, b""
        digest = hashlib.sha256(content).hexdigest()
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{digest[:40]}"'}
        if not match["file"].endswith(LARGE):
            return 200, headers, content
        linked = {"X-Linked-ETag": f'"{digest}"', "X-Linked-Size": str(len(content))}
        location = f"{self.storage}/{match['repo']}/{match['file']}?{SIGNATURE}"
        return 302, headers | linked | {"Location": location}, b""


class _Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        self.server.tokens.add(self.headers.get("Authorization", ""))
        signed_in = "Authorization" in self.headers
        status, headers, body = self.server.answer(self.command, self.path, signed_in)
        if status == 200 and self.command == "GET":
            status, headers, body = self._part(status, headers, body)
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            if value:  # an empty one says that it is not sent at all
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self._send(body)

    do_HEAD = do_GET

    def _part(self, status: int, headers: dict[str, str], body: bytes) -> Reply:
        """Return what is left of the body from where the client has it already, where that was asked for."""
        asked = _RANGE.fullmatch(self.headers.get("Range", ""))
        if asked is None:
            return status, headers, body
        self.server.ranges.append(asked[0])
        if not self.server.knows_ranges:
            return status, headers, body
        start = int(asked[1])
        return 206, headers | {"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"}, body[start:]

    def _send(self, body: bytes) -> None:
        is_content = self.path.partition("?")[0].endswith(LARGE) and bool(body)
        cut = self.server.cuts.pop(0) if is_content and self.server.cuts else None
        try:
            if is_content and self.server.stops:
                self.wfile.write(body[: len(body) // 2])
                self.server.halfway.release()
                self.server.go_on.wait(timeout=120)
                body = body[len(body) // 2 :]
            self.wfile.write(body[:cut])
        except OSError:
            pass  # whoever asked is dead by now, as the tests want it

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve for the block."""
    with hub, running(hub):
        try:
            yield hub
        finally:
            hub.go_on.set()
