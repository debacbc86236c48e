"""A model hub on loopback: the HEAD and GET of `resolve` that huggingface_hub 2.4 makes, over files in memory."""

import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_RESOLVE = re.compile(r"/(?P<repo>(?:datasets/)?[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")


class Hub(ThreadingHTTPServer):
    """Serve `files` ("OWNER/NAME/FILE" to content) at COMMIT, answer any other commit as missing, log requests."""

    def __init__(self, files: dict[str, bytes], gated: frozenset[str] = frozenset()) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.files = files
        self.gated = gated
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body for one path."""
        match = _RESOLVE.fullmatch(path)
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
        status, headers, body = self.server.answer(self.path)
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass
