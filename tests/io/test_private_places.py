"""What others on the machine must not reach: DVC's pickles, checkpoints, locks, and the pages of MLflow."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipeline.io import paths, process
from pipeline.io.errors import UserError
from tests.smoke.workspace import DVC, EXPERIMENT, ROOT, build
from tests.tracking.server import free_port

NOBODY = 65534
PATIENCE = 180  # seconds until something that should have happened counts as failed


def mode(folder: Path) -> str:
    return oct(folder.stat().st_mode & 0o777)


@pytest.fixture
def open_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a root where every private folder is open to everyone."""
    monkeypatch.chdir(tmp_path)
    for folder in paths.private():
        (folder / "repo").mkdir(parents=True)
        folder.chmod(0o777)
    return tmp_path


def test_dvc_keeps_its_state_in_a_private_folder() -> None:
    configured = subprocess.run(
        [*DVC, "config", "core.site_cache_dir"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    # as .dvc/config names it, or .dvc/config.local, which `make setup` writes
    assert ROOT / configured.stdout.strip() in {ROOT / path for path in paths.private()}


@pytest.mark.parametrize("umask", [0o000, 0o002])
def test_a_stage_closes_what_is_open_to_others_before_it_does_anything(open_folders: Path, umask: int) -> None:
    """Even one that is then refused, here for want of parameters."""
    command = [sys.executable, "-m", "stages.format", EXPERIMENT]
    surroundings = os.environ | {"PYTHONPATH": str(ROOT), "TRACKING": "off"}
    done = subprocess.run(command, env=surroundings, capture_output=True, umask=umask, check=False)
    assert done.returncode == 2
    assert {mode(folder) for folder in paths.private()} == {"0o700"}


def test_folders_that_are_not_there_stay_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    process.keep_private(*paths.private())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder of another user's")
def test_a_folder_of_another_user_that_anyone_can_write_to_is_refused(open_folders: Path) -> None:
    open_folders.chmod(0o755)
    (first, *_) = paths.private()
    assert as_nobody(first) == f"{first}: expected a folder that nobody but its owner can write to"
    first.chmod(0o755)
    assert as_nobody(first) == ""


def as_nobody(folder: Path) -> str:
    """Return what a process of another user is told of a folder, up to the first comma."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setuid(NOBODY)
        try:
            process.keep_private(folder)
        except UserError as error:
            os.write(writer, str(error).partition(",")[0].encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as file:
        return file.read()


@pytest.mark.slow
@pytest.mark.parametrize("umask", [0o000, 0o002])
@pytest.mark.parametrize("committed", [True, False], ids=["cloned", "removed"])
def test_nobody_else_reaches_dvc_s_state_after_a_run(umask: int, committed: bool, tmp_path: Path) -> None:
    """DVC would make the folder with mode 0777 whatever the umask is; it may also have been removed by hand."""
    origin = build(tmp_path / "origin")
    root = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", origin.root, root], check=True, umask=umask)
    if not committed:
        shutil.rmtree(root / ".dvc-state")
    done = subprocess.run(
        [*DVC, "repro", f"download@{EXPERIMENT}"],
        cwd=root,
        env=origin.surroundings(TRACKING="off"),
        capture_output=True,
        text=True,
        umask=umask,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert mode(root / ".dvc-state") == mode(root / ".locks") == "0o700"
    assert list((root / ".dvc-state" / "repo").glob("*/*")), "the state is elsewhere"


@pytest.mark.slow
def test_the_pages_of_mlflow_listen_on_loopback_only(tmp_path: Path) -> None:
    workspace = build(tmp_path / "repository")
    for name in ("Makefile", "requirements.txt"):
        shutil.copy(ROOT / name, workspace.root)
    lay_out_environment(workspace.root)
    port = free_port()
    with (tmp_path / "log.txt").open("w") as log:
        make = subprocess.Popen(
            ["make", "ui", f"PORT={port}"],
            cwd=workspace.root,
            env=workspace.surroundings(),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while not (addresses := listening(make.pid)):
            assert make.poll() is None and time.monotonic() < deadline, (tmp_path / "log.txt").read_text()
            time.sleep(0.2)
        assert ("127.0.0.1", port) in addresses
        assert {address for address, _ in addresses} == {"127.0.0.1"}
    finally:
        os.killpg(make.pid, signal.SIGTERM)
        make.wait(timeout=30)


def lay_out_environment(root: Path) -> None:
    """Make a .venv that `make` takes for installed: its commands are those of the tests' own Python."""
    commands = root / ".venv" / "bin"
    commands.mkdir(parents=True)
    for name, arguments in {"python": "", "mlflow": "-m mlflow "}.items():
        (commands / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments}"$@"\n')
        (commands / name).chmod(0o755)
    locked = (root / "requirements.txt").read_bytes()
    sums = subprocess.run(["cksum"], input=locked, capture_output=True, check=True).stdout.decode()
    (root / ".venv" / f"installed-{sums.strip().replace(' ', '-')}").touch()


def listening(pid: int) -> set[tuple[str, int]]:
    """Return the addresses on which a process and its descendants listen."""
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        sockets = [socket for member in family for socket in member.net_connections(kind="inet")]
    except psutil.NoSuchProcess:
        return set()
    return {(socket.laddr.ip, socket.laddr.port) for socket in sockets if socket.status == psutil.CONN_LISTEN}
