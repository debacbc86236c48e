"""SFT, PPO and DPO, each killed five times at random updates and started again by `dvc repro`: not a bit is lost."""

import random
import sys
from pathlib import Path

import pytest

from tests.smoke import torture
from tests.smoke.workspace import Workspace

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
    seed = random.randrange(2**32)
    moments = sorted(random.Random(seed).uniform(0.03, 0.97) for _ in range(KILLS))
    tally = torture.torture(ready, method, expected, moments, seed)
    assert tally.lost == [], f"seed {seed}"
    assert tally.kills >= 4, "killed before it ended"  # one that is due in the last updates may come too late
    assert tally.continued >= 3, "it went on where it was"


def test_a_checkpoint_of_other_parameters_is_not_continued(ready: Workspace, tmp_path: Path) -> None:
    workspace, log = ready.copy(tmp_path / "copy"), tmp_path / "log.txt"
    with torture.started(workspace, "sft", log) as dvc:
        torture.wait_until(lambda: torture.progress(log) >= torture.UPDATES // 3, "it has left a checkpoint")
        torture.kill("both", dvc, workspace, "sft")
    assert list(workspace.root.glob("checkpoints/*/0/sft/step-*"))
    parameters = workspace.load("experiments/smoke.yaml")
    workspace.edit("experiments/smoke.yaml", **parameters | {"sft": parameters["sft"] | {"learning_rate": 1.0e-3}})
    done = workspace.run(*torture.DVC, "repro", torture.entry("sft"))
    assert done.returncode == 0, done.stderr
    assert "not continued (of other parameters)" in done.stdout + done.stderr
    assert [run.status for run in torture.store.runs(torture.store.uri(workspace.root))] == ["KILLED", "FINISHED"]
