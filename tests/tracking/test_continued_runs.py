"""A training that is interrupted and continued is one MLflow run, with every point once."""

import signal
from pathlib import Path

import pytest

from pipeline import tracking
from tests.tracking import made_up as given

EXPERIMENT = given.EXPERIMENT
HALF = len(given.CURVES) // 2
# A training of its own process that shows half of its curves, and a few points that are never sent; then it is gone.
INTERRUPTED = f"""
import os, sys
from pipeline import tracking
from tests.tracking import made_up as given

key, ending = sys.argv[1:]
with tracking.start("train_ppo", experiment="{EXPERIMENT}", seed=0, params={{"ppo.steps": 40}}, key=key) as run:
    for step, values in given.CURVES[:{HALF}]:
        run.log(step, values)
    if ending == "kill":
        os.kill(os.getpid(), 9)
    sys.exit(1) if ending == "exit" else sys.exit(int("no number"))
"""


def interrupted(key: str, ending: str) -> int:
    """Let a training of another process begin and not end; return its exit status."""
    return given.python(f"import sys; sys.argv[1:] = ['{key}', '{ending}']\n{INTERRUPTED}").returncode


def train(key: str, first: int = 0) -> None:
    """Train in this process from a checkpoint at the step `first`."""
    with tracking.start("train_ppo", experiment=EXPERIMENT, seed=0, params={"ppo.steps": 40}, key=key) as run:
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
def test_a_run_that_came_to_its_end_is_left_as_it_is() -> None:
    given.leave_inputs()
    train("same")
    train("same")
    assert [run.info.status for run in given.runs()] == ["FINISHED", "FINISHED"]
    assert all("continued" not in run.data.tags for run in given.runs())


@pytest.mark.usefixtures("repository")
def test_the_run_of_a_process_that_lives_is_not_taken() -> None:
    given.leave_inputs()
    with tracking.start("train_ppo", experiment=EXPERIMENT, seed=0, params={}, key="same"):
        train("same")
        assert sorted(run.info.status for run in given.runs()) == ["FINISHED", "RUNNING"]


@pytest.mark.usefixtures("repository")
def test_a_run_that_goes_on_is_not_closed_as_that_of_its_dead_first_process() -> None:
    given.leave_inputs()
    assert interrupted("same", "kill") == -signal.SIGKILL
    with tracking.start("train_ppo", experiment=EXPERIMENT, seed=0, params={}, key="same"):
        tracking.Store.open(EXPERIMENT)  # as another stage would, which closes what is dead
        (run,) = given.runs()
        assert run.info.status == "RUNNING"
    assert Path("mlflow.db").exists()
