"""A store whose disk is full, a server's and a sqlite file's: refused at the start, survived later, told afterwards."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.apps import track
from tests.faults.small_disks import UNSHARE, why_not
from tests.smoke.stopping import wait_until
from tests.tracking import made_up as given
from tests.tracking.server import free_port, start_server, stop
from tests.tracking.test_outages import assert_whole, seen
from tests.tracking.trainer import Trainer, trainer

PROBLEM = why_not()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(PROBLEM), reason=PROBLEM)]
KIB = 8192
BALLAST = "ballast"
ROOM_FOR_POINTS = 300  # KiB: too little for the adapter
BEGINNING, POINTS, ARTIFACT = range(3)  # what the disk has no room for, as seeds
# Mounts a small disk with a copy of the database, and starts the command that follows in its namespace.
ON_A_SMALL_DISK = f'mount -t tmpfs -o size={KIB}k small "$0" && cp mlflow.db "$0" && exec "$@"'


@pytest.fixture
def disk(repository: Path) -> Path:
    """Return the folder that the small disk is mounted on, in the namespace alone."""
    given.write_roster([BEGINNING, POINTS, ARTIFACT])
    given.leave_inputs()
    folder = repository / "disk"
    folder.mkdir()
    return folder


def through(disk: Path) -> tuple[str, ...]:
    """Return the command that starts another one where the small disk is."""
    return (*UNSHARE, "sh", "-c", ON_A_SMALL_DISK, str(disk))


def fill(disk: Path, left: int = 0) -> None:
    """Fill the disk until as many KiB are left."""
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    (disk / BALLAST).write_bytes(bytes(max(free - left * 1024, 0)))


def make_room(disk: Path) -> None:
    """Empty the disk again."""
    (disk / BALLAST).unlink()


def inside(pid: int, disk: Path) -> Path:
    """Return the small disk as seen from here, when it is mounted and holds the database."""
    place = Path(f"/proc/{pid}/root{disk}")
    wait_until(lambda: (place / "mlflow.db").exists(), "the small disk is mounted")
    assert os.statvfs(place).f_blocks * os.statvfs(place).f_frsize == KIB * 1024
    return place


def suffer(process: Trainer, disk: Path, artifacts: bool) -> None:
    """Train with a disk that is full at the start, in the middle and, where they lie on it, for the artifacts."""
    fill(disk)
    refusal = process.begin(BEGINNING)
    assert "cannot be used" in refusal and "TRACKING=off" in refusal and "\n" not in refusal
    make_room(disk)
    for seed, left in ((POINTS, 0), (ARTIFACT, ROOM_FOR_POINTS))[: 1 + artifacts]:
        assert process.begin(seed) == ""
        fill(disk, left)
        process.train()
        (warning,) = process.end()["warnings"]
        assert "make track" in warning
        make_room(disk)


def assert_told_once(seed: int, served: Path, whole: Callable[..., Any] = assert_whole) -> None:
    """Compare the run with what is on disk, before and after another `make track`."""
    (run,) = seen(seed, served)
    whole(run, seed)
    track.rebuild(given.EXPERIMENT)
    assert seen(seed, served) == [run]


def test_a_server_on_a_full_disk(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    server = start_server(port, disk, through(disk))
    try:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri := f"http://127.0.0.1:{port}")
        there = inside(server.pid, disk)
        with trainer(uri) as process:
            suffer(process, there, artifacts=True)
        track.rebuild(given.EXPERIMENT)
        for seed in (POINTS, ARTIFACT):
            assert_told_once(seed, there / "server")
    finally:
        stop(server)


def test_a_sqlite_file_on_a_full_disk(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with trainer(f"sqlite:///{disk / 'mlflow.db'}", through(disk)) as process:
        there = inside(process.process.pid, disk)
        suffer(process, there, artifacts=False)
        shutil.copy(there / "mlflow.db", "kept.db")  # the disk goes with the process
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{Path('kept.db').absolute()}")
    track.rebuild(given.EXPERIMENT)
    (run,) = seen(POINTS)
    assert run.status == "FINISHED"
    assert_told_once(POINTS, Path("mlartifacts"), lambda run, seed: None)
    assert len(run.history["policy/loss"]) == len(given.CURVES)
