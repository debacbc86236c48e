"""`hub:` sources through the real huggingface_hub against a hub on loopback; in a subprocess, since the library
reads HF_ENDPOINT once, at import."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sources.hub_server import COMMIT, SIGNATURE, Hub, serving
from tests.sources.wheels import tree

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "hf_aTokenThatNobodyMayRead"
FILES = {
    "owner/model/config.json": b"{}\n",
    "owner/model/onnx/weights.safetensors": b"weights\n",
    "owner/model/unnamed.txt": b"not asked for\n",
    "owner/closed/config.json": b"{}\n",
    "datasets/owner/rows/train.jsonl": b'{"row": 1}\n',
}
PROGRAM = """
import json, logging, sys
from pathlib import Path
from pipeline.config.sections import Source
from pipeline.io.errors import UserError
from pipeline.sources.fetching import fetch
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
try:
    print(json.dumps(fetch("x", Source(uri=sys.argv[1], sha256=json.loads(sys.argv[2])), Path("out/x"))))
except UserError as error:
    sys.exit(f"refused: {error}")
"""


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving(Hub(dict(FILES), gated=frozenset({"owner/closed"}))) as server:
        yield server


def run_fetch(hub: Hub, folder: Path, uri: str, pins: object, **extra: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    env |= {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(folder / "hub"),
        "HF_TOKEN": TOKEN,
        "NO_PROXY": "127.0.0.1,localhost",
    }
    command = [sys.executable, "-c", PROGRAM, uri, json.dumps(pins)]
    env |= {"PYTHONPATH": str(ROOT), **extra}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False)


def pins(repo: str, *files: str) -> dict[str, str]:
    return {file: hashlib.sha256(FILES[f"{repo}/{file}"]).hexdigest() for file in files}


def test_the_named_files_are_copied_and_a_second_fetch_asks_nothing(hub: Hub, tmp_path: Path) -> None:
    uri, wanted = f"hub:owner/model@{COMMIT}", pins("owner/model", "config.json", "onnx/weights.safetensors")

    first = run_fetch(hub, tmp_path, uri, wanted)
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout) == {"uri": uri, "sha256": wanted}
    assert tree(tmp_path / "out") == {"x/config.json": b"{}\n", "x/onnx/weights.safetensors": b"weights\n"}
    assert not any(path.is_symlink() for path in (tmp_path / "out").rglob("*"))
    assert SIGNATURE in " ".join(hub.requests) and SIGNATURE not in first.stderr

    asked = len(hub.requests)
    second = run_fetch(hub, tmp_path, uri, wanted)
    assert second.stdout == first.stdout
    assert hub.requests[asked:] == []
    assert "already there" in second.stderr


def test_a_cached_file_that_was_damaged_is_fetched_again(hub: Hub, tmp_path: Path) -> None:
    uri, wanted = f"hub:datasets/owner/rows@{COMMIT}", pins("datasets/owner/rows", "train.jsonl")
    assert run_fetch(hub, tmp_path, uri, wanted).returncode == 0
    blob = next(path for path in (tmp_path / "hub" / "hub").rglob("*") if path.is_symlink()).resolve()
    blob.write_bytes(b'{"row": 2}\n')

    assert run_fetch(hub, tmp_path, uri, wanted).returncode == 0
    assert tree(tmp_path / "out") == {"x/train.jsonl": b'{"row": 1}\n'}


def test_a_wrong_hash_names_both_and_leaves_nothing(hub: Hub, tmp_path: Path) -> None:
    wanted = {**pins("owner/model", "config.json"), "onnx/weights.safetensors": "0" * 64}

    done = run_fetch(hub, tmp_path, f"hub:owner/model@{COMMIT}", wanted)

    true = pins("owner/model", "onnx/weights.safetensors")["onnx/weights.safetensors"]
    assert done.returncode == 1
    for named in (f"refused: x: hub:owner/model@{COMMIT}", "onnx/weights.safetensors", "0" * 64, true):
        assert named in done.stderr
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("uri", "file", "said"),
    [
        (f"hub:owner/model@{'f' * 40}", "config.json", f"has no commit {'f' * 40}"),
        (f"hub:owner/model@{COMMIT}", "absent.json", "has no file 'absent.json'"),
        (f"hub:owner/closed@{COMMIT}", "config.json", "is gated; accept its terms"),
        (f"hub:owner/nowhere@{COMMIT}", "config.json", "does not exist, or is private"),
        ("hub:owner/model@main", "config.json", "expected a commit of 40 hex digits"),
        (f"hub:model@{COMMIT}", "config.json", "expected hub:OWNER/NAME@REVISION"),
        (f"hub:owner/model@{COMMIT}", "../config.json", "could leave the target folder"),
    ],
)
def test_each_problem_has_its_own_message(uri: str, file: str, said: str, hub: Hub, tmp_path: Path) -> None:
    done = run_fetch(hub, tmp_path, uri, {file: "0" * 64})

    assert done.returncode == 1
    assert said in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr and TOKEN not in done.stderr
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(("token", "status"), [(TOKEN, 403), ("", 401)], ids=["with a token", "without"])
def test_a_gated_repository_is_told_as_such(token: str, status: int, hub: Hub, tmp_path: Path) -> None:
    done = run_fetch(hub, tmp_path, f"hub:owner/closed@{COMMIT}", {"config.json": "0" * 64}, HF_TOKEN=token)

    assert hub.tokens - {""} == ({f"Bearer {token}"} if token else set())
    (path,) = {request.partition(" ")[2] for request in hub.requests if "/resolve/" in request}
    assert hub.answer("HEAD", path, signed_in=bool(token))[0] == status
    assert "is gated; accept its terms on its page, then set HF_TOKEN" in done.stderr.splitlines()[-1]
    assert list((tmp_path / "out").iterdir()) == []


def test_offline_with_a_warm_cache_needs_no_hub(hub: Hub, tmp_path: Path) -> None:
    uri, wanted = f"hub:owner/model@{COMMIT}", pins("owner/model", "config.json", "onnx/weights.safetensors")
    online = run_fetch(hub, tmp_path, uri, wanted)
    assert online.returncode == 0, online.stderr
    shutil.rmtree(tmp_path / "out")

    asked = len(hub.requests)
    for switch in ({"HF_HUB_OFFLINE": "1"}, {"TRANSFORMERS_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}):
        offline = run_fetch(hub, tmp_path, uri, wanted, **switch)
        assert offline.returncode == 0, offline.stderr
        assert offline.stdout == online.stdout
        assert tree(tmp_path / "out") == {"x/config.json": b"{}\n", "x/onnx/weights.safetensors": b"weights\n"}
    assert len(hub.requests) == asked


def test_offline_with_a_damaged_copy_gives_nothing(hub: Hub, tmp_path: Path) -> None:
    uri, wanted = f"hub:datasets/owner/rows@{COMMIT}", pins("datasets/owner/rows", "train.jsonl")
    assert run_fetch(hub, tmp_path, uri, wanted).returncode == 0
    blob = next(path for path in (tmp_path / "hub" / "hub").rglob("*") if path.is_symlink()).resolve()
    blob.write_bytes(b'{"row": 2}\n')
    shutil.rmtree(tmp_path / "out")

    offline = run_fetch(hub, tmp_path, uri, wanted, HF_HUB_OFFLINE="1")
    assert offline.returncode == 1
    assert "HF_HUB_OFFLINE" in offline.stderr.splitlines()[-1]
    assert tree(tmp_path / "out") == {}


def test_offline_without_a_copy_says_so(hub: Hub, tmp_path: Path) -> None:
    done = run_fetch(hub, tmp_path, f"hub:owner/model@{COMMIT}", {"config.json": "0" * 64}, HF_HUB_OFFLINE="1")

    assert "HF_HUB_OFFLINE" in done.stderr.splitlines()[-1]
    assert hub.requests == []
