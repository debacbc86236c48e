"""`hub:` sources through the real huggingface_hub against a hub on loopback; in a subprocess, since the library
reads HF_ENDPOINT once, at import."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sources.hub_server import COMMIT, Hub, serving
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
from pipeline.errors import UserError
from pipeline.sources import fetch
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
    env |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "hub"), "HF_TOKEN": TOKEN, "NO_PROXY": "127.0.0.1"}
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


def test_offline_without_a_copy_says_so(hub: Hub, tmp_path: Path) -> None:
    done = run_fetch(hub, tmp_path, f"hub:owner/model@{COMMIT}", {"config.json": "0" * 64}, HF_HUB_OFFLINE="1")

    assert "HF_HUB_OFFLINE" in done.stderr.splitlines()[-1]
    assert hub.requests == []
