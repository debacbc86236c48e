"""The three trainings at once, as `make train -j3` starts them, into one fresh MLflow store."""

import subprocess
from pathlib import Path

import pytest

from pipeline import paths
from pipeline.projection.description import read_curves
from tests.smoke import store
from tests.smoke.conftest import WholeRun
from tests.smoke.workspace import DVC, EXPERIMENT, POLICIES, build, stages

METHODS = POLICIES[1:]
TRAININGS = [f"train_{method}@{EXPERIMENT}-0" for method in METHODS]


@pytest.mark.slow
def test_three_trainings_at_once_are_recorded_and_run_no_second_time(
    whole: WholeRun, python_folder: Path, tmp_path: Path
) -> None:
    workspace = build(tmp_path / "parallel")
    warm = workspace.started_by(python_folder)
    upstream = warm.repro(f"preferences@{EXPERIMENT}-0", TRACKING="off")

    running = [
        subprocess.Popen(
            [*DVC, "--wait-for-lock", "repro", "-s", training],
            cwd=workspace.root,
            env=workspace.surroundings(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for training in TRAININGS
    ]
    printed = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], "\n".join(printed)

    assert set(warm.repro()) == stages() - {*upstream, *TRAININGS}
    assert workspace.outputs() == whole.workspace.outputs()
    seen = store.by_name(store.runs(store.uri(workspace.root)))
    assert {run.status for run in seen.values()} == {"FINISHED"}
    for method in METHODS:
        curves = read_curves(workspace.root / paths.curves(EXPERIMENT, 0, method))
        assert {name: points for name, points in seen[method].history.items() if name in curves} == curves
        assert "rebuilt" not in seen[method].tags
        assert "evaluation/consonants/toxicity_mean" in seen[method].history
