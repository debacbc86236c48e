"""One real `dvc repro` of the whole DAG: what it writes, and that DVC agrees that nothing is left to do."""

import json
import os
import re
import time
from pathlib import Path

import pytest
import yaml

from pipeline.io import paths, process
from pipeline.preferences.pairs import pairs_of, read_samples
from tests.smoke.conftest import WholeRun
from tests.smoke.workspace import DVC, EXPERIMENT, OUTPUTS, POLICIES, change, command, executed, sha256, stages

JUDGES = {"consonants", "vowels", "letter"}
METRICS = {"toxicity_mean", "expected_max_toxicity", "toxicity_probability", "toxic_fraction"}
GUARDS = {
    "perplexity_median",
    "distinct_1",
    "distinct_2",
    "distinct_3",
    "repetition",
    "empty_rate",
    "length_mean",
    "kl",
}
PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".joblib", ".ckpt"}
# Names under which libraries report how long something took, and dates in ISO 8601.
TIMING = re.compile(rb"runtime|per_second|timestamp|created|20\d\d-[01]\d-[0-3]\d[ T]")


def test_every_stage_ran_once(whole: WholeRun) -> None:
    assert sorted(whole.executed) == sorted(stages())


def test_every_declared_output_exists(whole: WholeRun) -> None:
    lock = whole.workspace.load("dvc.lock")["stages"]
    assert set(lock) == stages()
    outputs = [whole.workspace.root / item["path"] for entry in lock.values() for item in entry["outs"]]
    assert len(outputs) == len(set(outputs)) > len(stages())
    assert [path for path in outputs if not path.exists()] == []


def test_nothing_else_lies_in_the_output_folders(whole: WholeRun) -> None:
    lock = whole.workspace.load("dvc.lock")["stages"]
    declared = {item["path"] for entry in lock.values() for item in entry["outs"]}
    undeclared = [
        path
        for path in whole.workspace.outputs()
        if not any(path == name or path.startswith(f"{name}/") for name in declared)
    ]
    assert undeclared == []


def test_git_sees_results_and_nothing_else_that_is_new(whole: WholeRun) -> None:
    assert whole.workspace.git("status", "--porcelain") == ""
    new = whole.workspace.git("diff", "--name-only", whole.commit, "HEAD").splitlines()
    assert {name.partition("/")[0] for name in new} == {"dvc.lock", "metrics", "plots"}


def test_a_second_repro_runs_nothing(whole: WholeRun) -> None:
    before = {path: (whole.workspace.root / path).stat().st_mtime_ns for path in whole.workspace.outputs()}
    printed = whole.workspace.dvc("repro")
    assert executed(printed) == []
    assert "Data and pipelines are up to date." in printed
    assert {path: (whole.workspace.root / path).stat().st_mtime_ns for path in whole.workspace.outputs()} == before


def test_status_is_clean(whole: WholeRun) -> None:
    assert json.loads(whole.workspace.dvc("status", "--json")) == {}


def test_metrics_show_knows_every_metrics_file(whole: WholeRun) -> None:
    shown = json.loads(whole.workspace.dvc("metrics", "show", "--json"))[""]["data"]
    assert set(shown) == set(whole.workspace.outputs("metrics"))
    assert not [name for name, entry in shown.items() if "error" in entry]
    evaluation = shown[str(paths.metrics(EXPERIMENT, "evaluation"))]["data"]
    assert evaluation["ppo"]["judges"]["consonants"]["toxicity_mean"]["value"] > 0


def test_diffs_show_what_changed_between_two_states(whole: WholeRun, tmp_path: Path) -> None:
    changed = whole.workspace.copy(tmp_path / "changed")
    file = str(paths.experiment_file(EXPERIMENT))
    section = changed.load(file)["evaluate"]
    changed.edit(file, evaluate=section | {"threshold": 0.75})
    assert changed.repro(TRACKING="off") == [f"evaluate@{EXPERIMENT}"]
    differences = json.loads(changed.dvc("params", "diff", "--json", "HEAD"))
    assert differences == {file: {"evaluate.threshold": {"old": section["threshold"], "new": 0.75, "diff": 0.25}}}
    evaluation = json.loads(changed.dvc("metrics", "diff", "--json", "HEAD"))
    assert set(evaluation) == {str(paths.metrics(EXPERIMENT, "evaluation"))}
    (numbers,) = evaluation.values()
    assert "reference.judges.vowels.toxic_fraction.value" in numbers
    assert not [name for name in numbers if "toxicity_mean" in name], "the mean knows no threshold"


def test_the_plots_of_dvc_can_be_drawn(whole: WholeRun, tmp_path: Path) -> None:
    whole.workspace.dvc("plots", "show", "--out", str(tmp_path / "plots"))
    page = (tmp_path / "plots" / "index.html").read_text()
    for method in POLICIES[1:]:
        assert str(paths.curves(EXPERIMENT, 0, method)) in page


def test_the_evaluation_keeps_its_contract(whole: WholeRun) -> None:
    evaluation = whole.workspace.load(str(paths.metrics(EXPERIMENT, "evaluation")))
    assert evaluation["schema_version"] == 1
    meta = evaluation["meta"]
    assert (meta["primary_judge"], meta["prompts"], meta["samples_per_prompt"], meta["seeds"]) == (
        "consonants",
        12,
        4,
        [0],
    )
    assert meta["decoding"]["max_new_tokens"] == 12
    about_all = {"baselines", "comparisons", "agreement", "champion"}
    assert set(evaluation) == {"schema_version", "meta", *POLICIES, *about_all}
    for policy in POLICIES:
        assert set(evaluation[policy]["judges"]) == JUDGES
        assert set(evaluation[policy]["guards"]) >= GUARDS
        for judged in evaluation[policy]["judges"].values():
            assert judged["missing_rate"] == 0
            assert all(judged[name]["low"] <= judged[name]["value"] <= judged[name]["high"] for name in METRICS)
            assert ("difference" in judged) == (policy != "reference")
            assert set(judged.get("difference", METRICS)) == METRICS


def test_policies_differ_and_only_the_reference_has_no_kl(whole: WholeRun) -> None:
    evaluation = whole.workspace.load(str(paths.metrics(EXPERIMENT, "evaluation")))
    distances = {policy: evaluation[policy]["guards"]["kl"] for policy in POLICIES}
    assert distances.pop("reference") == 0
    assert all(distance > 0 for distance in distances.values())
    files = whole.workspace.outputs("completions")
    assert len(set(files.values())) == len(POLICIES)


def test_preferences_give_pairs_that_differ_by_the_margin(whole: WholeRun) -> None:
    pairs = pairs_of(read_samples(whole.workspace.root / paths.preferences(EXPERIMENT, 0)))
    assert len(pairs) > 10
    assert all(pair.rejected_toxicity - pair.chosen_toxicity >= 0.5 for pair in pairs)


def test_no_place_and_no_time_enters_an_output(whole: WholeRun) -> None:
    root = whole.workspace.root
    began = (root / "params.yaml").stat().st_mtime
    places = [str(root), str(root.resolve()), str(Path.home()), os.uname().nodename]
    # every second from the beginning until now, as seconds or the head of milliseconds since 1970
    seconds = {str(int(began) + offset).encode() for offset in range(int(time.time() - began) + 2)}
    for path in whole.workspace.outputs():
        content = (root / path).read_bytes()
        assert not [place for place in places if len(place) > 5 and place.encode() in content], path
        numbers = set(re.findall(rb"(?<!\d)(1\d{9})(?:\d{3})?(?!\d)", content))
        assert not numbers & seconds, path
        # the texts and hashes of sources are what they are
        assert path.startswith(("data/", "models/")) or not TIMING.search(content), path


def test_no_output_is_a_pickle(whole: WholeRun) -> None:
    assert [path for path in whole.workspace.outputs() if Path(path).suffix in PICKLES] == []
    for method in POLICIES[1:]:
        names = {path.name for path in (whole.workspace.root / paths.adapter(EXPERIMENT, 0, method)).iterdir()}
        assert names == {"adapter_model.safetensors", "adapter_config.json"}


def test_the_base_is_the_checkpoint_that_was_pinned(whole: WholeRun) -> None:
    root = whole.workspace.root
    for source in sorted((root / "sources" / "checkpoint").iterdir()):
        assert sha256(root / paths.base_model(EXPERIMENT) / source.name) == sha256(source)


def test_a_stage_that_runs_already_is_refused_in_one_line(whole: WholeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(whole.workspace.root)
    with process.exclusive(f"train_ppo-{EXPERIMENT}-0"):
        done = whole.workspace.run("python", "-m", *command("train_ppo", EXPERIMENT, "0"))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert str(os.getpid()) in line and f"train_ppo-{EXPERIMENT}-0" in line


def test_a_wrong_parameter_stops_dvc_before_anything_is_written(whole: WholeRun, tmp_path: Path) -> None:
    broken = whole.workspace.copy(tmp_path / "broken")
    file = broken.root / paths.experiment_file(EXPERIMENT)
    parameters = yaml.safe_load(file.read_text())
    change(parameters, {"ppo": {"minibatch_size": 5, "steps": 0}})
    file.write_text(yaml.safe_dump(parameters))
    done = broken.run(*DVC, "repro")
    assert done.returncode != 0
    assert "methods.ppo.steps" in done.stderr and "Traceback" not in done.stderr
    assert not broken.outputs("metrics").keys() - whole.workspace.outputs("metrics").keys()


def test_folders_are_what_dvc_yaml_and_paths_agree_on(whole: WholeRun) -> None:
    assert {path.partition("/")[0] for path in whole.workspace.outputs()} == set(OUTPUTS)
