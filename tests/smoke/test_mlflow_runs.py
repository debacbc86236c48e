"""What MLflow shows after one real run of the whole DAG, and that it can be told again from what is on disk."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.io import paths
from pipeline.tracking.description import read_curves, shown_numbers
from tests.smoke import store
from tests.smoke.conftest import WholeRun
from tests.smoke.store import SeenRun
from tests.smoke.workspace import EXPERIMENT, POLICIES, sha256

METHODS = POLICIES[1:]
JUDGED = [f"{stage}-{policy}" for stage in ("complete", "probe", "score") for policy in POLICIES]
NAMES = {"download", "format", "judge", "reference", "preferences", *METHODS, *JUDGED, "evaluate"}
REBUILT = NAMES - {"download", *JUDGED}  # those that leave metrics or an adapter


@pytest.fixture(scope="module")
def seen(whole: WholeRun) -> dict[str, SeenRun]:
    """Return every run by its name."""
    return store.by_name(whole.runs)


def test_there_is_one_finished_run_a_stage_execution(whole: WholeRun, seen: dict[str, SeenRun]) -> None:
    assert set(seen) == NAMES
    assert {run.status for run in whole.runs} == {"FINISHED"}
    assert not [run.name for run in whole.runs if "rebuilt" in run.tags]


def test_parameters_are_those_that_dvc_tracks_for_the_stage(whole: WholeRun, seen: dict[str, SeenRun]) -> None:
    dag = whole.workspace.load("dvc.yaml")["stages"]
    parameters = whole.workspace.load(str(paths.experiment_file(EXPERIMENT)))
    for run in seen.values():
        node = dag[run.tags["stage"]]
        declared = [item for entry in node.get("do", node)["params"] for item in entry.items()]
        sections = {name for file, names in declared if file.startswith("experiments/") for name in names}
        found = [[section for section in sections if f"{name}.".startswith(f"{section}.")] for name in run.params]
        assert {section for (section,) in found} == sections, run.name
    assert seen["ppo"].params["methods.ppo.steps"] == "3"
    assert seen["dpo"].params["methods.dpo.beta"] == str(parameters["methods"]["dpo"]["beta"])
    assert json.loads(seen["sft"].params["reward.scorer.keywords"]) == list("aeiou")


@pytest.mark.parametrize("method", METHODS)
def test_curves_are_those_on_disk_step_by_step(method: str, whole: WholeRun, seen: dict[str, SeenRun]) -> None:
    curves = read_curves(whole.workspace.root / paths.curves(EXPERIMENT, 0, method))
    assert len(curves["policy/loss"]) > 2
    assert {name: points for name, points in seen[method].history.items() if name in curves} == curves


def test_every_number_of_every_metrics_file_is_in_the_run_that_wrote_it(
    whole: WholeRun, seen: dict[str, SeenRun]
) -> None:
    for path in whole.workspace.outputs("metrics"):
        stage = Path(path).stem.replace("evaluation", "evaluate")
        values = shown_numbers(stage, json.loads((whole.workspace.root / path).read_text()))
        assert values, path
        history = seen[stage].history
        shown = {name: history.get(f"final/{name}", history.get(name)) for name in values}
        assert shown == {name: {0: value} for name, value in values.items()}, path


@pytest.mark.parametrize("method", METHODS)
def test_an_adapter_is_an_artifact_without_pickles_found_by_its_fingerprint(
    method: str, whole: WholeRun, seen: dict[str, SeenRun]
) -> None:
    folder = whole.workspace.root / paths.adapter(EXPERIMENT, 0, method)
    assert seen[method].artifacts == {
        f"adapter/{name}": sha256(folder / name) for name in ("adapter_model.safetensors", "adapter_config.json")
    }
    metrics = whole.workspace.load(str(paths.metrics(EXPERIMENT, method, 0)))
    for name in (method, f"complete-{method}", f"probe-{method}", f"score-{method}"):
        assert seen[name].tags["adapter.fingerprint"] == metrics["adapter_sha256"]


def test_inputs_have_the_digests_of_dvc_lock(whole: WholeRun, seen: dict[str, SeenRun]) -> None:
    lock = whole.workspace.load("dvc.lock")["stages"]
    train, dev, judged = (str(paths.formatted(EXPERIMENT, split)) for split in ("train", "dev", "eval"))
    assert seen["sft"].inputs.keys() == {str(paths.preferences(EXPERIMENT, 0)), dev}
    assert seen["ppo"].inputs.keys() == {train, dev}
    assert seen["complete-ppo"].inputs.keys() == {judged}
    for run in seen.values():
        axes = [EXPERIMENT, run.tags.get("seed"), run.tags["method"] if run.name in JUDGED else None]
        entry = lock[f"{run.tags['stage']}@{'-'.join(axis for axis in axes if axis)}"]
        locked = {item["path"]: item["md5"] for item in entry["deps"]}
        assert run.inputs == {name: locked[name] for name in run.inputs}, run.name


def test_tags_name_code_and_place(whole: WholeRun, seen: dict[str, SeenRun]) -> None:
    for run in seen.values():
        assert (run.tags["git.commit"], run.tags["git.dirty"]) == (whole.commit, "false"), run.name
    assert {run.tags["seed"] for run in seen.values() if "seed" in run.tags} == {"0"}
    assert {name: seen[name].tags["stage"] for name in METHODS} == {name: f"train_{name}" for name in METHODS}
    assert {name: seen[name].tags["method"] for name in METHODS} == {name: name for name in METHODS}
    # dvc.lock as the stage found it: the first found none, and every other another one
    digests = [run.tags.get("dvc.lock") for run in whole.runs]
    assert digests[0] is None
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize("policy", POLICIES)
def test_the_evaluation_lands_in_the_run_that_made_the_policy(
    policy: str, whole: WholeRun, seen: dict[str, SeenRun]
) -> None:
    evaluation = whole.workspace.load(str(paths.metrics(EXPERIMENT, "evaluation")))[policy]
    shown = {name: points[0] for name, points in seen[policy].history.items() if name.startswith("evaluation/")}
    toxicity = evaluation["judges"]["consonants"]["toxicity_mean"]
    assert shown["evaluation/consonants/toxicity_mean"] == toxicity["value"]
    assert shown["evaluation/consonants/toxicity_mean/high"] == toxicity["high"]
    assert shown["evaluation/guards/perplexity_median"] == evaluation["guards"]["perplexity_median"]
    assert ("evaluation/vowels/difference/toxicity_mean" in shown) == (policy != "reference")


def test_the_evaluation_shows_every_completion(whole: WholeRun, seen: dict[str, SeenRun]) -> None:
    digest = seen["evaluate"].artifacts["completions.json"]
    (file,) = (whole.workspace.root / "mlartifacts").rglob("completions.json")
    assert sha256(file) == digest
    table: dict[str, Any] = json.loads(file.read_text())
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert len(rows) == 4 * 12 * 4
    expected = [
        json.loads(line)
        for line in (whole.workspace.root / paths.completions(EXPERIMENT, 0, "dpo")).read_text().splitlines()
    ]
    shown = [row for row in rows if row["policy"] == "dpo"]
    assert [row["completion"] for row in shown] == [row["completion"] for row in expected]
    assert all(0 <= row["toxicity/consonants"] <= 1 for row in shown)


def test_tracking_again_adds_nothing(whole: WholeRun) -> None:
    printed = whole.workspace.python("pipeline.apps.track").splitlines()
    assert len(printed) == len(REBUILT)
    assert [line for line in printed if not line.endswith(": present")] == []
    assert store.runs(store.uri(whole.workspace.root)) == whole.runs


def test_an_empty_store_is_filled_again_from_disk(whole: WholeRun, seen: dict[str, SeenRun], tmp_path: Path) -> None:
    fresh = f"sqlite:///{tmp_path}/fresh.db"
    whole.workspace.python("pipeline.apps.track", MLFLOW_TRACKING_URI=fresh)
    rebuilt = store.by_name(store.runs(fresh))
    assert set(rebuilt) == REBUILT
    for name, run in rebuilt.items():
        assert run.lasting() == seen[name].lasting(), name
        assert run.tags["rebuilt"] == "true"


def test_the_store_is_a_file_of_the_working_copy_that_git_ignores(whole: WholeRun) -> None:
    assert (whole.workspace.root / "mlflow.db").is_file()
    assert whole.workspace.git("check-ignore", "mlflow.db", "mlartifacts").splitlines() == ["mlflow.db", "mlartifacts"]
