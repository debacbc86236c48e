"""A training that is interrupted leaves no second writer and no stale lock, and the next `dvc repro` makes it whole."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.smoke import store
from tests.smoke.workspace import DVC, EXPERIMENT, Workspace, build

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")]
PATIENCE = 60  # seconds until something that should have happened counts as failed
STEPS = 60  # enough that a step in the middle is well before the end
STAGE = f"train_ppo@{EXPERIMENT}-0"
RESULTS = ("adapters", "metrics", "plots")


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory, python_folder: Path) -> Workspace:
    """Return a working copy in which all that train_ppo reads is there; change nothing."""
    workspace = build(tmp_path_factory.mktemp("interrupted") / "ready", ppo={"steps": STEPS})
    workspace.started_by(python_folder).repro(f"reference@{EXPERIMENT}-0", TRACKING="off")
    return workspace


@pytest.fixture(scope="module")
def uninterrupted(ready: Workspace, python_folder: Path) -> dict[str, str]:
    """Return the results of a training that nothing disturbs."""
    workspace = ready.copy(ready.root.with_name("uninterrupted")).started_by(python_folder)
    assert workspace.repro(STAGE, TRACKING="off") == [STAGE]
    return workspace.outputs(*RESULTS)


@contextmanager
def started(workspace: Workspace, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Start `dvc repro` of the training as the leader of its own process group, and leave nothing of it behind."""
    with log.open("wb") as file:
        dvc = subprocess.Popen(
            [*DVC, "repro", STAGE],
            cwd=workspace.root,
            env=workspace.surroundings(),
            stdout=file,
            stderr=file,
            start_new_session=True,
            preexec_fn=hear_ctrl_c,
        )
    try:
        yield dvc
    finally:
        for process in stages_of(workspace):
            process.kill()
        dvc.kill()
        dvc.wait()


def hear_ctrl_c() -> None:
    """Undo that a shell lets its background jobs, and whatever they start, ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def stages_of(workspace: Workspace) -> list[psutil.Process]:
    """Return the stage processes that work in this working copy, whoever their parent is."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        line = process.info["cmdline"] or []
        if "stages.train_ppo" in line and process.info["cwd"] == str(workspace.root.resolve()):
            found.append(process)
    return [process for process in found if process.status() != psutil.STATUS_ZOMBIE]


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Wait for a condition to come true."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE} s: {what}"
        time.sleep(0.02)


def trains(log: Path) -> bool:
    """Tell from the progress bar that a few steps are done and most are not."""
    steps = [int(step) for step in re.findall(rf"ppo: .*? (\d+)/{STEPS} ", log.read_text(errors="replace"))]
    assert max(steps, default=0) < STEPS / 2, "too late to interrupt"
    return max(steps, default=0) >= 3


def imports_torch(workspace: Workspace) -> bool:
    """Tell that the stage has begun to load libraries; what it loads after torch takes seconds."""
    return any("libtorch" in Path(f"/proc/{process.pid}/maps").read_text() for process in stages_of(workspace))


def statuses(workspace: Workspace) -> list[str]:
    """Return the status of every MLflow run, oldest first."""
    return [run.status for run in store.runs(store.uri(workspace.root))]


def check_recovery(workspace: Workspace, uninterrupted: dict[str, str], interrupted: list[str]) -> None:
    """Check that another `dvc repro` makes the training whole and closes what is open in MLflow."""
    assert workspace.repro(STAGE) == [STAGE]
    assert workspace.outputs(*RESULTS) == uninterrupted
    assert statuses(workspace) == [*interrupted, "FINISHED"]
    assert list(workspace.root.rglob(".*.tmp")) == []
    assert workspace.repro(STAGE) == []


def written(workspace: Workspace) -> list[str]:
    """Return what the training has written."""
    return [path for path in workspace.outputs(*RESULTS) if Path(path).stem == "ppo" or "/ppo/" in path]


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_a_stage_ends_with_its_dvc(
    sent: signal.Signals, ready: Workspace, uninterrupted: dict[str, str], tmp_path: Path
) -> None:
    workspace, log = ready.copy(tmp_path / "copy"), tmp_path / "log.txt"
    with started(workspace, log) as dvc:
        wait_until(lambda: trains(log), "the training is in its middle")
        os.kill(dvc.pid, sent)
        dvc.wait(timeout=PATIENCE)
        wait_until(lambda: not stages_of(workspace), "the stage ends with its parent")
    assert written(workspace) == []
    assert statuses(workspace) == ["KILLED"]
    check_recovery(workspace, uninterrupted, ["KILLED"])


def test_a_stage_ends_with_its_dvc_while_it_still_imports(
    ready: Workspace, uninterrupted: dict[str, str], tmp_path: Path
) -> None:
    workspace, log = ready.copy(tmp_path / "copy"), tmp_path / "log.txt"
    with started(workspace, log) as dvc:
        wait_until(lambda: imports_torch(workspace), "the stage imports torch")
        dvc.kill()
        dvc.wait(timeout=PATIENCE)
        assert not (workspace.root / ".locks").exists(), "the stage has begun already"
        wait_until(lambda: not stages_of(workspace), "the stage ends with its parent")
    assert not (workspace.root / ".locks").exists()
    check_recovery(workspace, uninterrupted, [])


def test_a_stage_that_is_killed_is_closed_by_the_next(
    ready: Workspace, uninterrupted: dict[str, str], tmp_path: Path
) -> None:
    workspace, log = ready.copy(tmp_path / "copy"), tmp_path / "log.txt"
    with started(workspace, log) as dvc:
        wait_until(lambda: trains(log), "the training is in its middle")
        for process in stages_of(workspace):
            process.kill()
        assert dvc.wait(timeout=PATIENCE) != 0
    assert statuses(workspace) == ["RUNNING"]
    check_recovery(workspace, uninterrupted, ["KILLED"])


def test_ctrl_c_ends_both(ready: Workspace, uninterrupted: dict[str, str], tmp_path: Path) -> None:
    workspace, log = ready.copy(tmp_path / "copy"), tmp_path / "log.txt"
    with started(workspace, log) as dvc:
        wait_until(lambda: trains(log), "the training is in its middle")
        os.killpg(dvc.pid, signal.SIGINT)
        assert dvc.wait(timeout=PATIENCE) != 0
        wait_until(lambda: not stages_of(workspace), "the stage ends")
    assert "Traceback" not in log.read_text() and "train_ppo: interrupted" in log.read_text()
    assert written(workspace) == []
    check_recovery(workspace, uninterrupted, ["KILLED"])
