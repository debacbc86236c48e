"""Every kind of death of a stage and of its dvc, at a chosen moment, and what the next `dvc repro` makes of it."""

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.smoke.stopping import (
    CACHING,
    COMMAND,
    IMPORTING,
    OUTPUT,
    PATIENCE,
    RECORDING,
    REMEMBERING,
    STAGE,
    TAKING_ITS_PLACE,
    WRITING,
    said,
    send,
    stages_of,
    stopped,
    wait_until,
)
from tests.smoke.workspace import DVC, EXPERIMENT, Workspace, build

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")]


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory, python_folder: Path) -> Workspace:
    """Return a working copy in which all that `score` reads is there; change nothing."""
    workspace = build(tmp_path_factory.mktemp("deaths") / "ready").started_by(python_folder)
    workspace.repro(f"complete@{EXPERIMENT}-0-ppo", f"judge@{EXPERIMENT}", TRACKING="off")
    workspace.commit()
    return workspace


@pytest.fixture(scope="module")
def undisturbed(ready: Workspace) -> bytes:
    """Return the output of a stage that nothing disturbs."""
    workspace = ready.copy(ready.root.with_name("undisturbed"))
    assert workspace.repro("-s", STAGE, TRACKING="off") == [STAGE]
    return (workspace.root / OUTPUT).read_bytes()


@pytest.fixture
def workspace(ready: Workspace, tmp_path: Path) -> Workspace:
    """Return a working copy whose stages are started by a Python of their own: a true child of dvc."""
    return ready.copy(tmp_path / "copy").started_by(Path(sys.executable).parent)


def check_dead(dvc: "subprocess.Popen[str]", workspace: Workspace) -> None:
    """Check that nothing goes on, and that nothing half-written stands in an output's place."""
    assert dvc.wait(timeout=PATIENCE) != 0
    wait_until(lambda: not stages_of(workspace), "the stage ends with its dvc")
    assert "Traceback" not in said(workspace), said(workspace)
    assert not (workspace.root / OUTPUT).exists()


def check_recovery(workspace: Workspace, python_folder: Path, undisturbed: bytes, **environment: str) -> None:
    """Check that another `dvc repro` runs the stage and gives the same bytes, and that nothing of the dead is left."""
    tracking = {"TRACKING": "off"} | environment
    assert workspace.started_by(python_folder).repro("-s", STAGE, **tracking) == [STAGE]
    assert (workspace.root / OUTPUT).read_bytes() == undisturbed
    assert own_temporaries(workspace) == []
    assert workspace.repro("-s", STAGE, **tracking) == []


def own_temporaries(workspace: Workspace) -> list[Path]:
    """Return what is left of a stage's writing; what a killed dvc leaves of its copying is named at random."""
    return [path for path in workspace.root.rglob(".*.tmp") if path.name.startswith(".ppo.jsonl")]


KILLS = [
    (signal.SIGKILL, "group"),  # as good as a power cut
    (signal.SIGKILL, "stage"),
    (signal.SIGKILL, "dvc"),
    (signal.SIGTERM, "stage"),
    (signal.SIGTERM, "dvc"),
    (signal.SIGHUP, "group"),  # the terminal was closed
    (signal.SIGHUP, "dvc"),
]


@pytest.mark.parametrize(("number", "to"), KILLS, ids=[f"{number.name}-{to}" for number, to in KILLS])
def test_a_death_while_the_output_is_written(
    number: signal.Signals, to: str, workspace: Workspace, python_folder: Path, undisturbed: bytes
) -> None:
    with stopped(workspace, WRITING) as dvc:
        send(number, to, dvc, workspace)
        check_dead(dvc, workspace)
    check_recovery(workspace, python_folder, undisturbed)


@pytest.mark.parametrize("moment", [IMPORTING, TAKING_ITS_PLACE], ids=["importing", "taking its place"])
@pytest.mark.parametrize("to", ["group", "dvc"])
def test_a_death_at_another_moment(
    moment: str, to: str, workspace: Workspace, python_folder: Path, undisturbed: bytes
) -> None:
    with stopped(workspace, moment) as dvc:
        assert (workspace.root / ".locks").exists() == (moment != IMPORTING)
        send(signal.SIGKILL, to, dvc, workspace)
        check_dead(dvc, workspace)
    check_recovery(workspace, python_folder, undisturbed)


def test_ctrl_c_twice(workspace: Workspace, python_folder: Path, undisturbed: bytes) -> None:
    with stopped(workspace, WRITING) as dvc:
        send(signal.SIGINT, "group", dvc, workspace)
        send(signal.SIGINT, "group", dvc, workspace)
        check_dead(dvc, workspace)
    assert said(workspace).count("score: interrupted\n") == 1
    check_recovery(workspace, python_folder, undisturbed)


@pytest.mark.parametrize("moment", [CACHING, RECORDING], ids=["caching", "recording"])
def test_a_death_while_dvc_keeps_what_the_stage_wrote(
    moment: str, workspace: Workspace, python_folder: Path, undisturbed: bytes
) -> None:
    with stopped(workspace, moment) as dvc:
        assert stages_of(workspace) == []
        send(signal.SIGKILL, "group", dvc, workspace)
        dvc.wait(timeout=PATIENCE)
    assert (workspace.root / OUTPUT).read_bytes() == undisturbed
    workspace.started_by(python_folder).dvc("repro", "-s", STAGE, TRACKING="off")  # run again, or found in dvc's cache
    assert (workspace.root / OUTPUT).read_bytes() == undisturbed
    assert workspace.repro("-s", STAGE, TRACKING="off") == []


def test_a_death_while_dvc_remembers_the_run(workspace: Workspace, python_folder: Path, undisturbed: bytes) -> None:
    """A folder of dvc's run cache that is still empty makes dvc 3.67 fail until it is removed."""
    with stopped(workspace, REMEMBERING) as dvc:
        send(signal.SIGKILL, "group", dvc, workspace)
        dvc.wait(timeout=PATIENCE)
    failed = workspace.run(*DVC, "repro", "-s", STAGE, TRACKING="off")
    assert failed.returncode != 0 and "not 'NoneType'" in failed.stderr, "dvc is cured: take the remedy out of the docs"
    workspace.must("find", ".dvc/cache/runs", "-type", "d", "-empty", "-delete")
    check_recovery(workspace, python_folder, undisturbed)


def test_a_lock_file_that_dvc_left_empty_is_taken_from_git(
    workspace: Workspace, python_folder: Path, undisturbed: bytes
) -> None:
    """dvc empties dvc.lock before it writes it anew: a power cut between the two is the one that needs a hand."""
    (workspace.root / "dvc.lock").write_text("")
    assert "'./dvc.lock' validation failed" in workspace.run(*DVC, "repro", "-s", STAGE, TRACKING="off").stderr
    workspace.git("checkout", "dvc.lock")
    check_recovery(workspace, python_folder, undisturbed)


# A second writer


def test_a_second_writer_is_refused_and_the_first_goes_on(workspace: Workspace, undisturbed: bytes) -> None:
    with stopped(workspace, WRITING) as dvc:
        (first,) = stages_of(workspace)
        by_hand = workspace.run(*COMMAND, TRACKING="off")
        assert by_hand.returncode == 2 and by_hand.stderr.count("\n") == 1, by_hand.stderr
        place = ".locks/score-smoke-0-ppo"
        message = f"score: {place}: process {first.pid} is running this stage already; wait for it or end it\n"
        assert by_hand.stderr == message
        second = workspace.run(*DVC, "repro", "-s", STAGE, TRACKING="off")
        assert second.returncode != 0 and "Traceback" not in second.stderr, second.stderr
        assert len(stages_of(workspace)) == 1
        (workspace.root.parent / "stopped").unlink()
        assert dvc.wait(timeout=PATIENCE) == 0, said(workspace)
    assert (workspace.root / OUTPUT).read_bytes() == undisturbed
    assert own_temporaries(workspace) == []
    assert workspace.repro("-s", STAGE, TRACKING="off") == []


# MLflow


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return MLflow's database for all tests of this module: making its tables takes seconds."""
    from mlflow import MlflowClient

    database = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{database}").search_experiments()
    return database


def statuses(store: Path) -> list[str]:
    """Return the status of every run, oldest first."""
    with closing(sqlite3.connect(store)) as connection:
        return [status for (status,) in connection.execute("SELECT status FROM runs ORDER BY start_time")]


@pytest.mark.parametrize(
    ("number", "to", "left"),
    [
        (signal.SIGKILL, "group", "RUNNING"),
        (signal.SIGHUP, "group", "KILLED"),
        (signal.SIGTERM, "dvc", "KILLED"),
    ],
    ids=["SIGKILL", "SIGHUP", "SIGTERM"],
)
def test_no_run_is_left_running_after_the_next_start(
    number: signal.Signals,
    to: str,
    left: str,
    workspace: Workspace,
    python_folder: Path,
    undisturbed: bytes,
    store: Path,
) -> None:
    tracking = {"TRACKING": "on", "MLFLOW_TRACKING_URI": f"sqlite:///{store}"}
    before = statuses(store)
    with stopped(workspace, WRITING, **tracking) as dvc:
        assert statuses(store) == [*before, "RUNNING"]
        send(number, to, dvc, workspace)
        check_dead(dvc, workspace)
    assert statuses(store) == [*before, left]
    check_recovery(workspace, python_folder, undisturbed, **tracking)
    assert statuses(store) == [*before, "KILLED", "FINISHED"]


def test_no_run_is_left_running_after_make_track(workspace: Workspace, python_folder: Path, store: Path) -> None:
    tracking = {"TRACKING": "on", "MLFLOW_TRACKING_URI": f"sqlite:///{store}"}
    before = statuses(store)
    with stopped(workspace, WRITING, **tracking) as dvc:
        send(signal.SIGKILL, "stage", dvc, workspace)
        check_dead(dvc, workspace)
    assert statuses(store) == [*before, "RUNNING"]
    workspace.started_by(python_folder).python("pipeline.apps.track", **tracking)
    assert "RUNNING" not in statuses(store) and statuses(store)[len(before)] == "KILLED"
