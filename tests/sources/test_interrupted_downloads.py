"""Downloads that are killed, or that meet in one cache: real stages, pip's real client, a real (slow) index."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from pipeline.sources import cache
from tests.sources.index_server import Index, serving
from tests.sources.small_experiment import begin, write_experiment
from tests.sources.wheels import Wheels, tree

ROWS = {"sample/rows.jsonl": os.urandom(1 << 16)}  # more than one read of pip's, halved
WAITING = 60  # seconds; two cores may be busy


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a repository root with the experiments `one` and `two` that need the same wheel."""
    (tmp_path / "index").mkdir()
    (tmp_path / "temporary").mkdir()
    root = tmp_path / "root"
    root.mkdir()
    sha256 = Wheels(tmp_path / "index").build(ROWS)
    for name in ("one", "two"):
        write_experiment(root, name, {"rows": {"uri": "pypi:sample==1.0#sample/rows.jsonl", "sha256": sha256}})
    return root


@pytest.fixture
def index(root: Path) -> Iterator[Index]:
    with serving(root.parent / "index") as index:
        yield index


def download(root: Path, index: Index, name: str) -> "subprocess.Popen[str]":
    temporary = str(root.parent / "temporary")
    return begin(root, "stages.download", name, PIP_INDEX_URL=index.url, TMPDIR=temporary)


def partial(root: Path) -> list[Path]:
    return sorted((root / ".cache" / "downloads").glob("partial-*"))


def eventually(happened: Callable[[], bool]) -> bool:
    end = time.monotonic() + WAITING
    while not happened() and time.monotonic() < end:
        time.sleep(0.05)
    return happened()


@pytest.mark.parametrize("killer", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_pip_dies_with_its_stage_and_the_next_one_clears_up(killer: signal.Signals, root: Path, index: Index) -> None:
    stage = download(root, index, "one")
    assert index.halfway.acquire(timeout=WAITING)
    (pip,) = psutil.Process(stage.pid).children()
    assert "pip" in pip.cmdline()

    stage.send_signal(killer)
    stage.communicate(timeout=WAITING)
    assert eventually(lambda: not pip.is_running() or pip.status() == psutil.STATUS_ZOMBIE)
    assert len(partial(root)) == (killer == signal.SIGKILL)  # a killed process cannot clear up
    assert not any((root / "data").rglob("*.jsonl"))
    assert list((root.parent / "temporary").iterdir()) == []

    index.go_on.set()
    stage = download(root, index, "one")
    _, said = stage.communicate(timeout=WAITING)
    assert stage.returncode == 0, said
    assert partial(root) == []
    assert (root / "data/one/raw/rows/rows.jsonl").read_bytes() == ROWS["sample/rows.jsonl"]


@pytest.mark.slow
def test_two_downloads_into_one_cache_do_not_disturb_each_other(root: Path, index: Index) -> None:
    stages = [download(root, index, name) for name in ("one", "two")]
    for _ in stages:
        assert index.halfway.acquire(timeout=WAITING)
    assert len(partial(root)) == 2
    index.go_on.set()

    for stage in stages:
        _, said = stage.communicate(timeout=WAITING)
        assert stage.returncode == 0, said
    one, two = (tree(root / "data" / name / "raw") for name in ("one", "two"))
    assert one == two and one["rows/rows.jsonl"] == ROWS["sample/rows.jsonl"]
    (kept,) = (path for path in (root / ".cache" / "downloads").iterdir() if path.name != ".lock")
    assert kept.read_bytes() == (root.parent / "index" / "sample-1.0-py3-none-any.whl").read_bytes()


def test_a_live_download_is_left_alone_and_a_dead_ones_folder_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOXICITY_DOWNLOAD_CACHE", str(tmp_path / "shared"))
    dead = tmp_path / "shared" / "partial-of-the-dead"
    dead.mkdir(parents=True)
    (dead / "half.whl").write_bytes(b"half")

    with cache.scratch() as first:
        (first / "wheel").write_bytes(b"more")
        with cache.scratch() as second:
            assert first != second and (first / "wheel").exists()
        assert (first / "wheel").exists()
        assert not dead.exists()
    assert {path.name for path in (tmp_path / "shared").iterdir()} == {".lock"}


def test_a_failure_in_the_middle_leaves_no_scratch_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOXICITY_DOWNLOAD_CACHE", str(tmp_path))
    with pytest.raises(ValueError), cache.scratch():
        raise ValueError
    assert list(tmp_path.glob("partial-*")) == []
