"""The same bytes from two clean runs, and nothing but the roster's seeds in the evaluation."""

from pathlib import Path

import pytest

from pipeline.io import paths
from tests.smoke.conftest import WholeRun
from tests.smoke.workspace import EXPERIMENT, Workspace, build, stages

pytestmark = pytest.mark.slow
EVALUATION = str(paths.metrics(EXPERIMENT, "evaluation"))


def set_seeds(workspace: Workspace, seeds: list[int]) -> None:
    """Change the seeds as a user does: edit params.yaml, then `make dag`."""
    workspace.edit("params.yaml", seeds=seeds)
    workspace.python("pipeline.apps.dag")


def test_two_clean_runs_write_the_same_bytes(whole: WholeRun, tmp_path: Path) -> None:
    """Not the same: the place, the hash seed, tracking, and that here every stage is a Python started for it alone."""
    second = build(tmp_path / "another place, of a longer name")
    executed = second.repro(TRACKING="off")
    assert sorted(executed) == sorted(stages())
    assert second.outputs() == whole.workspace.outputs()
    assert second.load("dvc.lock") == whole.workspace.load("dvc.lock")
    assert not (second.root / "mlflow.db").exists()


def test_a_seed_comes_and_goes(whole: WholeRun, tmp_path: Path) -> None:
    workspace = whole.workspace.copy(tmp_path / "seeds")
    alone = workspace.load(EVALUATION)
    before = workspace.outputs()

    set_seeds(workspace, [0, 1])
    assert set(workspace.repro(TRACKING="off")) == stages([1]) - stages([]) | {f"evaluate@{EXPERIMENT}"}
    both = workspace.load(EVALUATION)
    assert both["meta"]["seeds"] == [0, 1]
    assert all(both[policy]["seeds"]["0"] == alone[policy]["seeds"]["0"] for policy in both["meta"]["policies"])
    assert all(both[policy]["seeds"]["1"] != alone[policy]["seeds"]["0"] for policy in both["meta"]["policies"])
    plots = ("evaluation", "pareto", "scores", "categories", "prompts")
    evaluated = {EVALUATION, *(str(paths.plot(EXPERIMENT, name)) for name in plots)}
    after = workspace.outputs()
    assert {path for path in before if after[path] != before[path]} == evaluated

    set_seeds(workspace, [0])
    done = workspace.run("python", "-m", "stages.evaluate", EXPERIMENT, TRACKING="off")
    assert str(paths.scores(EXPERIMENT, 1, "dpo")) in done.stderr, "a file that is ignored is named"
    assert {path: digest for path, digest in workspace.outputs().items() if path in before} == before


def test_a_file_of_the_roster_that_is_missing_fails_the_evaluation(whole: WholeRun, tmp_path: Path) -> None:
    workspace = whole.workspace.copy(tmp_path / "missing")
    set_seeds(workspace, [0, 7])
    done = workspace.run("python", "-m", "stages.evaluate", EXPERIMENT, TRACKING="off")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert str(paths.completions(EXPERIMENT, 7, "reference")) in line
    assert workspace.outputs("metrics") == whole.workspace.outputs("metrics")
