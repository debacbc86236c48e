"""A training that is interrupted and continued is one MLflow run, with every point once."""

import signal
from pathlib import Path

import pytest

from pipeline.tracking import runs
from tests.tracking import made_up as given

EXPERIMENT = given.EXPERIMENT
HALF = len(given.CURVES) // 2
# A training of its own process that shows half of its curves, and a few points that are never sent; then it is gone.
INTERRUPTED = f"""
import os, sys
from pipeline.tracking import runs
from tests.tracking import made_up as given

key, ending = sys.argv[1:]
params, left = {{"methods.ppo.steps": 40}}, runs.PreviousRun(key, None)
with runs.start("train_ppo", experiment="{EXPERIMENT}", seed=0, params=params, left=left) as run:
    open("run_id", "w").write(run.run_id)
    for step, values in given.CURVES[:{HALF}]:
        run.log(step, values)
    if ending == "kill":
        os.kill(os.getpid(), 9)
    sys.exit(1) if ending == "exit" else sys.exit(int("no number"))
"""


def interrupted(key: str, ending: str) -> int:
    """Let a training of another process begin and not end; return its exit status."""
    return given.python(f"import sys; sys.argv[1:] = ['{key}', '{ending}']\n{INTERRUPTED}").returncode


def left(key: str = "same") -> runs.PreviousRun:
    """Return what an interrupted training of this key leaves beside its checkpoints."""
    path = Path("run_id")
    return runs.PreviousRun(key, path.read_text() if path.exists() else None)


def train(key: str, first: int = 0) -> None:
    """Train in this process from a checkpoint at the step `first`."""
    params = {"methods.ppo.steps": 40}
    with runs.start("train_ppo", experiment=EXPERIMENT, seed=0, params=params, left=left(key)) as run:
        for step, values in given.CURVES[first:]:
            run.log(step, values | {"time/step": 1.0})
        given.leave_training("ppo")


@pytest.mark.usefixtures("repository")
@pytest.mark.parametrize("ending", ["kill", "exit", "error"])
def test_however_it_was_interrupted_the_same_run_goes_on(ending: str) -> None:
    given.leave_inputs()
    assert interrupted("same", ending) != 0
    (before,) = given.runs()
    assert before.info.status == {"kill": "RUNNING", "exit": "KILLED", "error": "FAILED"}[ending]
    train("same", first=HALF - 7)  # the last checkpoint is a little older than what was shown
    (after,) = given.runs()
    assert after.info.run_id == before.info.run_id and after.info.status == "FINISHED"
    assert after.data.tags["continued"] == "1"
    history = given.contents(after)["history"]
    for name in ("objective/score", "policy/loss"):
        assert [step for step, _ in sorted(history[name])] == [step for step, _ in given.CURVES], name
    assert [step for step, _ in history["time/step"]] == list(range(HALF - 7, len(given.CURVES)))


@pytest.mark.usefixtures("repository")
def test_a_training_of_other_parameters_data_or_code_is_another_run() -> None:
    given.leave_inputs()
    interrupted("one", "exit")
    train("other")
    assert sorted(run.info.status for run in given.runs()) == ["FINISHED", "KILLED"]


@pytest.mark.usefixtures("repository")
def test_a_training_that_was_to_run_again_is_another_run() -> None:
    """Its checkpoints are gone once DVC has recorded it, and with them the name of its run."""
    given.leave_inputs()
    train("same")
    train("same")
    assert [run.info.status for run in given.runs()] == ["FINISHED", "FINISHED"]
    assert all("continued" not in run.data.tags for run in given.runs())


@pytest.mark.usefixtures("repository")
def test_a_run_that_is_not_in_this_store_is_begun_anew() -> None:
    given.leave_inputs()
    Path("run_id").write_text("0" * 32)
    train("same")
    (run,) = given.runs()
    assert run.info.status == "FINISHED" and run.info.run_id != "0" * 32


@pytest.mark.usefixtures("repository")
@pytest.mark.parametrize(
    ("tag", "value", "goes_on"),
    [
        ("host", "a container that is gone", True),
        ("host.boot", "before the restart", True),
        ("pid.namespace", "x", False),
    ],
)
def test_a_run_of_another_machine_goes_on_and_one_that_may_be_alive_does_not(
    tag: str, value: str, goes_on: bool
) -> None:
    given.leave_inputs()
    interrupted("same", "kill")
    (run,) = given.runs()
    given.client().set_tag(run.info.run_id, tag, value)
    train("same")
    assert len(given.runs()) == (1 if goes_on else 2)


@pytest.mark.usefixtures("repository")
def test_the_run_of_a_process_that_lives_is_not_taken() -> None:
    given.leave_inputs()
    with runs.start("train_ppo", experiment=EXPERIMENT, seed=0, params={}, left=left()) as run:
        assert run.run_id is not None
        Path("run_id").write_text(run.run_id)
        train("same")
        assert sorted(run.info.status for run in given.runs()) == ["FINISHED", "RUNNING"]


@pytest.mark.usefixtures("repository")
def test_a_run_that_goes_on_is_not_closed_as_that_of_its_dead_first_process() -> None:
    given.leave_inputs()
    assert interrupted("same", "kill") == -signal.SIGKILL
    with runs.start("train_ppo", experiment=EXPERIMENT, seed=0, params={}, left=left()):
        runs.Store.open(EXPERIMENT)  # as another stage would, which closes what is dead
        (run,) = given.runs()
        assert run.info.status == "RUNNING"
    assert Path("mlflow.db").exists()
