"""A connection to the hub that is cut in the middle of a large file, with the real client in a process of its own: the
rest is fetched, or nothing is left that could be taken for the file."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sources.hub_server import COMMIT, Hub, serving
from tests.sources.small_experiment import surroundings
from tests.sources.test_hub_source import PROGRAM
from tests.sources.wheels import tree

FILE = "owner/model/model.safetensors"
CHUNK = 10 << 20  # bytes that the client takes at once: what came of a chunk that is cut is asked for again
WEIGHTS = hashlib.shake_256(b"weights").digest(3 * CHUNK + 5)
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
URI = f"hub:owner/model@{COMMIT}"
# The client waits a second before it tries again, and gives up after five tries in vain.
IMPATIENT = "import time\ntime.sleep = lambda seconds: None\n"
# A shell starts what it puts into the background deaf to Ctrl-C, and so would the tests that it starts there be.
HEARING = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
WAITING = 30  # seconds; two cores may be busy


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving(Hub({FILE: WEIGHTS})) as server:
        yield server


def begin_fetch(hub: Hub, folder: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", HEARING + IMPATIENT + PROGRAM, URI, json.dumps({"model.safetensors": SHA256})]
    env = surroundings(HF_ENDPOINT=hub.url, HF_HOME=str(folder / "hub"), NO_PROXY="127.0.0.1,localhost")
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, env=env, stdout=pipe, stderr=pipe, text=True)


def run_fetch(hub: Hub, folder: Path) -> tuple[int, str]:
    process = begin_fetch(hub, folder)
    _, said = process.communicate(timeout=WAITING)
    return process.returncode, said


def arrived(folder: Path) -> dict[str, bytes]:
    return tree(folder / "out")


def test_the_rest_is_asked_for_and_put_to_what_came(hub: Hub, tmp_path: Path) -> None:
    hub.cuts = [CHUNK + 1, CHUNK + 1]
    status, said = run_fetch(hub, tmp_path)
    assert status == 0, said
    assert hub.cuts == []
    assert hub.ranges == [f"bytes={CHUNK}-", f"bytes={2 * CHUNK}-"]
    assert arrived(tmp_path) == {"x/model.safetensors": WEIGHTS}


def test_a_hub_that_gives_no_parts_gives_the_whole_file_again(hub: Hub, tmp_path: Path) -> None:
    hub.cuts, hub.knows_ranges = [CHUNK + 1], False
    status, said = run_fetch(hub, tmp_path)
    assert status == 0, said
    assert hub.ranges == [f"bytes={CHUNK}-"]
    assert arrived(tmp_path) == {"x/model.safetensors": WEIGHTS}


def test_a_connection_that_is_always_cut_leaves_nothing(hub: Hub, tmp_path: Path) -> None:
    hub.cuts = [CHUNK + 1, *[0] * 20]
    status, said = run_fetch(hub, tmp_path)
    assert status == 1
    assert f"refused: x: {URI}: the model repository owner/model did not give" in said.splitlines()[-1]
    assert arrived(tmp_path) == {}
    assert list((tmp_path / "hub").rglob("blobs/*")) == []

    hub.cuts = []
    assert run_fetch(hub, tmp_path)[0] == 0
    assert arrived(tmp_path) == {"x/model.safetensors": WEIGHTS}


@pytest.mark.parametrize("killer", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_fetch_leaves_nothing_and_the_next_one_is_whole(
    killer: signal.Signals, hub: Hub, tmp_path: Path
) -> None:
    hub.stops = True
    process = begin_fetch(hub, tmp_path)
    assert hub.halfway.acquire(timeout=WAITING)
    process.send_signal(killer)
    process.communicate(timeout=WAITING)
    assert process.returncode != 0
    assert arrived(tmp_path) == {}
    blobs = [path for path in (tmp_path / "hub").rglob("blobs/*") if path.suffix != ".incomplete"]
    assert blobs == [], "nothing that the client takes for the file"

    hub.stops = False
    hub.go_on.set()
    status, said = run_fetch(hub, tmp_path)
    assert status == 0, said
    assert arrived(tmp_path) == {"x/model.safetensors": WEIGHTS}
    assert os.listdir(tmp_path / "out") == ["x"]
