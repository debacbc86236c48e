"""Stages at the same time that come between two steps of each other: each run ends as its own stage ended it.

The other stage works at exactly the wrong moment: a hook waits for it there and changes nothing itself.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from subprocess import PIPE, Popen
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from pipeline.io import paths
from pipeline.io.records import write_jsonl
from pipeline.tracking import provenance, runs
from pipeline.tracking.execution import Execution
from tests.tracking import made_up as given

EXPERIMENT = given.EXPERIMENT
KEY = "same"
pytestmark = pytest.mark.usefixtures("repository")
# A training of its own process, which waits for a line before it leaves its results.
TRAINING = f"""
from pipeline.tracking import runs
from tests.tracking import made_up as given
left = runs.PreviousRun("{KEY}", None)
with runs.start("train_ppo", experiment="{EXPERIMENT}", seed=0, params={{}}, left=left):
    print("begun", flush=True)
    input()
    given.leave_training("ppo")
"""


@pytest.fixture
def training() -> Iterator["Popen[str]"]:
    """Yield a training of its own process that has begun; it is gone after the test."""
    command = [sys.executable, "-c", TRAINING]
    with Popen(command, env=given.surroundings(), stdin=PIPE, stdout=PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "begun\n"
        yield process
        process.kill()


@contextmanager
def once_before(statement: str, happens: Callable[[], object]) -> Iterator[None]:
    """Let something happen right before the database is first told a statement that begins so."""
    waiting = [happens]

    def look(connection: Any, cursor: Any, told: str, *_: Any) -> None:
        if waiting and told.startswith(statement):
            waiting.pop()()

    event.listen(Engine, "before_cursor_execute", look)
    try:
        yield
    finally:
        event.remove(Engine, "before_cursor_execute", look)
    assert not waiting, f"the database was never told {statement}"


def once_before_it_is_looked_for(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    """Let something happen between the search for runs and the first look whether their processes live."""
    look, waiting = provenance.is_alive, [happens]

    def late(tags: Mapping[str, str]) -> bool:
        if waiting:
            waiting.pop()()
        return look(tags)

    monkeypatch.setattr(provenance, "is_alive", late)


def train(seed: int) -> None:
    """Train in this process."""
    with runs.start("train_ppo", experiment=EXPERIMENT, seed=seed, params={}):
        given.leave_training("ppo", seed)


def test_two_trainings_that_name_the_same_data_at_once_both_have_it(caplog: pytest.LogCaptureFixture) -> None:
    given.leave_inputs()
    write_jsonl(paths.formatted(EXPERIMENT, "dev"), [{"prompt": "a dull day"}])
    with once_before("INSERT INTO datasets", lambda: train(1)):
        train(0)
    assert [record.getMessage() for record in caplog.records if record.name.startswith("pipeline")] == []
    first, second = (given.contents(run)["inputs"] for run in given.runs())
    assert first == second and len(first) == 2
    assert [run.info.status for run in given.runs()] == ["FINISHED", "FINISHED"]


def test_a_training_that_ends_while_others_look_for_dead_ones_is_finished(
    training: "Popen[str]", monkeypatch: pytest.MonkeyPatch
) -> None:
    once_before_it_is_looked_for(monkeypatch, lambda: training.communicate("\n"))
    runs.Store.open(EXPERIMENT)
    assert training.returncode == 0
    (run,) = given.runs()
    assert run.info.status == "FINISHED"


def test_a_training_that_goes_on_while_others_look_for_dead_ones_is_running(
    training: "Popen[str]", monkeypatch: pytest.MonkeyPatch
) -> None:
    (run,) = given.runs()
    left = runs.PreviousRun(KEY, run.info.run_id)
    store = runs.Store.open(EXPERIMENT)
    training.kill()
    training.wait()
    execution = Execution("train_ppo", EXPERIMENT, 0)
    once_before_it_is_looked_for(monkeypatch, lambda: store.begin(execution, {}, left))
    runs.Store.open(EXPERIMENT)
    (found,) = given.runs()
    assert (found.info.status, found.data.tags["pid"]) == ("RUNNING", str(os.getpid()))
