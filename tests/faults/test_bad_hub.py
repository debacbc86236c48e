"""`download` refuses what a model hub gives that is not what was pinned, and a hub that means harm."""

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.sources import digests
from tests.faults.conftest import refused
from tests.faults.sourced import OTHER, data, source
from tests.sources.hub_server import COMMIT, Hub, Reply, serving

FILE = "datasets/owner/rows/train.jsonl"
ROWS = b'{"prompt": "a silly day"}\n' * 100
PIN = hashlib.sha256(ROWS).hexdigest()
URI = f"hub:datasets/owner/rows@{COMMIT}"
SOUND = {"X-Repo-Commit": COMMIT, "ETag": '"abc"'}
TOKEN = "hf_aTokenThatNobodyMayRead"


@pytest.fixture
def hub(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Yield a hub on loopback that huggingface_hub asks in this process: it reads its settings at import."""
    from huggingface_hub import constants

    files = {FILE: ROWS, "datasets/owner/closed/train.jsonl": ROWS, "owner/model/config.json": b"{}\n"}
    with serving(Hub(files, gated=frozenset({"datasets/owner/closed"}))) as server:
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        settings = {"ENDPOINT": server.url, "HUGGINGFACE_CO_URL_TEMPLATE": template, "HF_HUB_OFFLINE": False}
        settings |= {"HF_HUB_CACHE": str(workplace / "hub"), "HF_TOKEN_PATH": str(workplace / "no-token")}
        for name, value in settings.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr(time, "sleep", lambda seconds: None)  # huggingface_hub waits between its tries
        yield server


URIS = {
    "commit that is not there": (f"hub:datasets/owner/rows@{'f' * 40}", f"has no commit {'f' * 40}"),
    "branch, which moves": ("hub:datasets/owner/rows@main", "expected a commit of 40 hex digits"),
    "tag, which moves": ("hub:datasets/owner/rows@v1.0", "expected a commit of 40 hex digits"),
    "short commit": (f"hub:datasets/owner/rows@{COMMIT[:12]}", "expected a commit of 40 hex digits"),
    "commit in capitals": (f"hub:datasets/owner/rows@{'A' * 40}", "expected a commit of 40 hex digits"),
    "no revision": ("hub:datasets/owner/rows", "the revision; run `make pin EXPERIMENT=smoke`"),
    "no owner": (f"hub:rows@{COMMIT}", "expected hub:OWNER/NAME@REVISION"),
    "three parts": (f"hub:owner/rows/more@{COMMIT}", "expected hub:OWNER/NAME@REVISION"),
    "climbing name": (f"hub:../rows@{COMMIT}", "expected hub:OWNER/NAME@REVISION"),
    "name that the hub cannot have": (f"hub:owner/rows--more@{COMMIT}", "is no name that a hub can have"),
    "gated": (f"hub:datasets/owner/closed@{COMMIT}", "is gated; accept its terms"),
    "absent or private": (f"hub:datasets/owner/nowhere@{COMMIT}", "does not exist, or is private"),
    "data set without its prefix": (f"hub:owner/rows@{COMMIT}", "needs the prefix datasets/"),
}


@pytest.mark.parametrize(("uri", "said"), URIS.values(), ids=URIS)
def test_a_repository_that_cannot_be_had(uri: str, said: str, hub: Hub) -> None:
    data(uri, {"train.jsonl": PIN})
    message = refused("download", "smoke", names=("data.sources.prompts: hub:", said))
    assert TOKEN not in message


PINS: dict[str, tuple[str | dict[str, str], str]] = {
    "other hash": ({"train.jsonl": OTHER}, PIN),
    "one hash for all": (OTHER, "expected sha256 to map every wanted file"),
    "nothing pinned": ({}, "expected sha256 to map every wanted file"),
    "absent file": ({"nowhere.jsonl": OTHER}, "has no file 'nowhere.jsonl'"),
    "one good, one absent": ({"train.jsonl": PIN, "z.jsonl": OTHER}, "has no file 'z.jsonl'"),
    "climbing file": ({"../train.jsonl": PIN}, "could leave the target folder"),
    "absolute file": ({"/etc/hosts": PIN}, "could leave the target folder"),
    "line break": ({"a\nb": PIN}, "could leave the target folder"),
}


@pytest.mark.parametrize(("pins", "said"), PINS.values(), ids=PINS)
def test_files_that_cannot_be_had(pins: str | dict[str, str], said: str, hub: Hub) -> None:
    data(URI, pins)
    refused("download", "smoke", names=(f"data.sources.prompts: {URI}: ", said))


HEAD, GET, BOTH = ("HEAD",), ("GET",), ("HEAD", "GET")
REPLIES: dict[str, tuple[tuple[str, ...], Reply, str]] = {
    "500": (BOTH, (500, {}, b""), "answered 500"),
    "503": (BOTH, (503, {}, b""), "answered 503"),
    "500 in the middle": (GET, (500, {}, b""), "answered 500"),
    "too many requests": (BOTH, (429, {}, b""), "answered 429"),
    "401": (BOTH, (401, {}, b""), "answered 401"),
    "403": (BOTH, (403, {}, b""), "answered 403"),
    "other content": (GET, (200, SOUND, ROWS.replace(b"silly", b"solly")), PIN),
    "body cut off": (GET, (200, {**SOUND, "Content-Length": str(len(ROWS))}, ROWS[:10]), "did not give 'train.jsonl'"),
    "shorter than announced": (GET, (200, SOUND, ROWS[:10]), "another size than announced"),
    "longer than announced": (GET, (200, SOUND, ROWS * 2), "another size than announced"),
    "empty": (GET, (200, SOUND, b""), "another size than announced"),
    "page of a proxy": (BOTH, (200, {"Content-Type": "text/html"}, b"<html>log in</html>"), "lacks the ETag or commit"),
    "no commit": (BOTH, (200, {"ETag": '"abc"'}, ROWS), "lacks the ETag or commit"),
    "no ETag": (BOTH, (200, {"X-Repo-Commit": COMMIT}, ROWS), "lacks the ETag or commit"),
    "length that is no number": (BOTH, (200, {**SOUND, "Content-Length": "many"}, b""), "did not give"),
    "encoding that does not decode": (GET, (200, {**SOUND, "Content-Encoding": "gzip"}, ROWS), "DecodingError"),
    "endless redirection": (
        BOTH,
        (302, {"Location": f"/datasets/owner/rows/resolve/{COMMIT}/train.jsonl"}, b""),
        "TooManyRedirects",
    ),
    "redirection to a file": (BOTH, (302, {"Location": "file:///etc/hosts"}, b""), "did not give"),
    "redirection to nobody": (BOTH, (302, {**SOUND, "Location": "http://127.0.0.1:9/a"}, b""), "did not give"),
    "ETag that climbs": (BOTH, (200, {**SOUND, "ETag": '"../../../../escaped"'}, ROWS), "header ETag"),
    "linked ETag that climbs": (BOTH, (200, {**SOUND, "X-Linked-ETag": '"../escaped"'}, ROWS), "header X-Linked-ETag"),
    "commit that climbs": (BOTH, (200, {**SOUND, "X-Repo-Commit": "../../escaped"}, ROWS), "header X-Repo-Commit"),
    "commit of an absent file that climbs": (
        BOTH,
        (404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": "../../escaped"}, b""),
        "header X-Repo-Commit",
    ),
    "announces a petabyte": (HEAD, (200, {**SOUND, "Content-Length": str(10**15)}, b""), "above the bound"),
}


@pytest.mark.parametrize(("methods", "reply", "said"), REPLIES.values(), ids=REPLIES)
@pytest.mark.filterwarnings("ignore:Not enough free disk space")
def test_a_reply_that_is_not_the_file(
    methods: tuple[str, ...], reply: Reply, said: str, hub: Hub, workplace: Path
) -> None:
    hub.replies = {f"{method} {FILE}": reply for method in methods}
    data(URI, {"train.jsonl": PIN})
    message = refused("download", "smoke", names=(f"data.sources.prompts: {URI}: ", said))
    assert TOKEN not in message
    assert list(workplace.parent.rglob("escaped*")) == []


def test_an_absolute_etag_writes_nothing_there(hub: Hub, workplace: Path) -> None:
    place = workplace.parent / "escaped"
    headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{place}"'}
    hub.replies = {f"{method} {FILE}": (200, headers, ROWS) for method in BOTH}
    data(URI, {"train.jsonl": PIN})
    refused("download", "smoke", names=("data.sources.prompts", "header ETag"))
    assert list(workplace.parent.iterdir()) == [workplace]


def test_more_than_the_hub_announced(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "MAX_FILE_BYTES", len(ROWS) * 10)
    hub.replies = {f"GET {FILE}": (200, {**SOUND, "Content-Length": ""}, ROWS * 20)}
    data(URI, {"train.jsonl": PIN})
    refused("download", "smoke", names=("data.sources.prompts", "larger than the bound"))


def test_the_first_pinned_file_alone_is_no_model(hub: Hub) -> None:
    source("model.source", f"hub:owner/model@{COMMIT}", {"config.json": hashlib.sha256(b"{}\n").hexdigest()})
    refused("download", "smoke", names=("model.source", "expected one .gguf, or config.json with *.safetensors"))
