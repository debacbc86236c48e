"""A training whose dvc or stage ends leaves no second writer and no stale lock, and the next `dvc repro` goes on."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

import pytest

from tests.smoke import store, torture
from tests.smoke.stopping import PATIENCE, stages_of, wait_until
from tests.smoke.workspace import EXPERIMENT, Workspace, build

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")]
METHOD = "ppo"
STAGE = torture.entry(METHOD)
RESULTS = torture.RESULTS


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory, python_folder: Path) -> Workspace:
    """Return a working copy in which all that train_ppo reads is there; change nothing."""
    workspace = build(tmp_path_factory.mktemp("interrupted") / "ready", ppo=torture.LONG[METHOD])
    workspace.started_by(python_folder).repro(f"reference@{EXPERIMENT}-0", TRACKING="off")
    return workspace


@pytest.fixture(scope="module")
def uninterrupted(ready: Workspace, python_folder: Path) -> dict[str, str]:
    """Return the results of a training that nothing disturbs."""
    return torture.undisturbed(ready.started_by(python_folder), METHOD)


@dataclass(frozen=True)
class Interrupted:
    """A working copy in which a training was interrupted, and what should come of it."""

    workspace: Workspace
    log: Path
    expected: dict[str, str]

    @contextmanager
    def begun(self, imports_only: bool = False) -> Iterator["Popen[bytes]"]:
        """Yield dvc when the training is in its middle, or while it still imports."""
        with torture.started(self.workspace, METHOD, self.log) as dvc:
            if imports_only:
                wait_until(self.imports_torch, "the stage imports torch")
            else:
                wait_until(lambda: torture.progress(self.log, METHOD) >= 3, "the training is in its middle")
                assert torture.progress(self.log, METHOD) < torture.UPDATES[METHOD] / 2, "too late to interrupt"
            yield dvc

    def imports_torch(self) -> bool:
        """Tell that the stage has begun to load libraries; what it loads after torch takes seconds."""
        stages = stages_of(self.workspace, f"train_{METHOD}")
        return any("libtorch" in Path(f"/proc/{process.pid}/maps").read_text() for process in stages)

    def ends(self) -> None:
        """Wait until no stage is alive."""
        wait_until(lambda: not stages_of(self.workspace, f"train_{METHOD}"), "the stage ends")

    def statuses(self) -> list[str]:
        """Return the status of every MLflow run, oldest first."""
        return [run.status for run in store.runs(store.uri(self.workspace.root))]

    def written(self) -> list[str]:
        """Return what the training has written."""
        found = self.workspace.outputs(*RESULTS)
        return [path for path in found if Path(path).stem == METHOD or f"/{METHOD}/" in path]

    def check_recovery(self) -> None:
        """Check that another `dvc repro` makes the training whole, in the same MLflow run."""
        assert self.workspace.repro(STAGE) == [STAGE]
        assert self.workspace.outputs(*RESULTS) == self.expected
        assert self.statuses() == ["FINISHED"]
        assert list(self.workspace.root.rglob(".*.tmp")) == []
        assert self.workspace.repro(STAGE) == []


@pytest.fixture
def interrupted(ready: Workspace, uninterrupted: dict[str, str], tmp_path: Path) -> Interrupted:
    return Interrupted(ready.copy(tmp_path / "copy"), tmp_path / "log.txt", uninterrupted)


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_a_stage_ends_with_its_dvc(sent: signal.Signals, interrupted: Interrupted) -> None:
    with interrupted.begun() as dvc:
        os.kill(dvc.pid, sent)
        dvc.wait(timeout=PATIENCE)
        interrupted.ends()
    assert interrupted.written() == []
    assert interrupted.statuses() == ["KILLED"]
    interrupted.check_recovery()


def test_a_stage_ends_with_its_dvc_while_it_still_imports(interrupted: Interrupted) -> None:
    with interrupted.begun(imports_only=True) as dvc:
        dvc.kill()
        dvc.wait(timeout=PATIENCE)
        assert not (interrupted.workspace.root / ".locks").exists(), "the stage has begun already"
        interrupted.ends()
    assert not (interrupted.workspace.root / ".locks").exists()
    interrupted.check_recovery()


def test_a_stage_that_is_killed_is_closed_by_the_next(interrupted: Interrupted) -> None:
    with interrupted.begun() as dvc:
        for process in stages_of(interrupted.workspace, f"train_{METHOD}"):
            process.kill()
        assert dvc.wait(timeout=PATIENCE) != 0
    assert interrupted.statuses() == ["RUNNING"]
    interrupted.check_recovery()


def test_ctrl_c_ends_both(interrupted: Interrupted) -> None:
    with interrupted.begun() as dvc:
        os.killpg(dvc.pid, signal.SIGINT)
        assert dvc.wait(timeout=PATIENCE) != 0
        interrupted.ends()
    printed = interrupted.log.read_text()
    assert "Traceback" not in printed and "train_ppo: interrupted" in printed
    assert interrupted.written() == []
    interrupted.check_recovery()
