"""SFT, PPO and DPO, each killed five times at random updates and started again by `dvc repro`: not a bit is lost."""

import copy
import random
import sys
from pathlib import Path

import pytest

from tests.smoke import store, torture
from tests.smoke.stopping import stopped, wait_until
from tests.smoke.workspace import EXPERIMENT, Workspace, change

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")]
KILLS = 5


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Return a working copy in which all that the trainings read is there; change nothing."""
    return torture.make_ready(tmp_path_factory.mktemp("resumed") / "ready")


@pytest.mark.parametrize("method", torture.METHODS)
def test_a_training_that_is_killed_five_times_ends_with_the_same_bits(method: str, ready: Workspace) -> None:
    expected = torture.undisturbed(ready, method)
    assert any(f"/{method}/adapter_model.safetensors" in path for path in expected)
    # Where in the work of an update a kill falls is up to the machine; which updates are hit repeats.
    choose = random.Random(method)
    moments = sorted(choose.uniform(0.1, 0.8) for _ in range(KILLS))
    tally = torture.torture(ready, method, expected, moments, choose.randrange(2**32))
    assert tally.lost == []
    # On a slow machine the last kill can come when the training is through and dvc has its result.
    assert tally.kills >= KILLS - 1 and tally.continued >= tally.kills - 1, "it went on where it was"


def test_a_checkpoint_of_other_parameters_is_not_continued(ready: Workspace, tmp_path: Path) -> None:
    workspace, log = ready.copy(tmp_path / "copy"), tmp_path / "log.txt"
    with torture.started(workspace, "sft", log) as dvc:
        wait_until(lambda: torture.progress(log, "sft") >= torture.UPDATES["sft"] // 3, "it has left a checkpoint")
        torture.kill("both", dvc, workspace, "sft")
    assert len(list(workspace.root.glob("checkpoints/*/0/sft/*/step-*"))) == 1
    parameters = workspace.load("experiments/smoke.yaml")
    changed = copy.deepcopy(parameters)
    change(changed, {"sft": {"learning_rate": 1.0e-3}})
    workspace.edit("experiments/smoke.yaml", **changed)
    done = workspace.run(*torture.DVC, "repro", torture.entry("sft"))
    assert done.returncode == 0, done.stderr
    assert "with other parameters; kept, not continued" in done.stdout + done.stderr
    assert statuses(workspace) == ["KILLED", "FINISHED"]

    workspace.edit("experiments/smoke.yaml", **parameters)
    done = workspace.run(*torture.DVC, "repro", torture.entry("sft"))
    assert "continuing from" in done.stdout + done.stderr, "it goes on when the old parameters are back"
    assert statuses(workspace) == ["FINISHED", "FINISHED"]


def test_a_training_that_is_told_to_run_again_does(ready: Workspace, tmp_path: Path) -> None:
    workspace = ready.copy(tmp_path / "copy")
    for number in (1, 2):
        done = workspace.run(*torture.DVC, "repro", "--force", "--single-item", torture.entry("sft"))
        assert done.returncode == 0 and "continuing from" not in done.stdout + done.stderr
        assert statuses(workspace) == ["FINISHED"] * number


def test_a_death_before_dvc_has_recorded_costs_no_training(ready: Workspace, tmp_path: Path) -> None:
    workspace = ready.copy(tmp_path / "copy")
    caching = "shutil.copyfile adapters/ .dvc/cache/files"
    with stopped(workspace, caching, stage=torture.entry("sft"), TRACKING="on") as dvc:
        dvc.kill()
        dvc.wait()
    done = workspace.run(*torture.DVC, "repro", torture.entry("sft"))
    assert done.returncode == 0, done.stderr
    assert f"continuing from checkpoints/{EXPERIMENT}/0/sft" in done.stdout + done.stderr
    assert statuses(workspace) == ["FINISHED"], "one result, one run"


def statuses(workspace: Workspace) -> list[str]:
    """Return the status of every MLflow run, oldest first."""
    return [run.status for run in store.runs(store.uri(workspace.root))]
