"""The numbers of an evaluation stand in the run of the training that made the policy, beside its parameters."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.apps import track
from pipeline.io import paths
from pipeline.io.records import read_jsonl, write_jsonl
from pipeline.tracking import runs
from pipeline.tracking.landings import before_after_table, completions_table
from tests.tracking import made_up as given

EXPERIMENT = given.EXPERIMENT
pytestmark = pytest.mark.usefixtures("repository")


def evaluate(**what: tuple[object, ...]) -> None:
    """Run a made-up evaluation."""
    with runs.start("evaluate", experiment=EXPERIMENT, params=given.params("evaluate")):
        given.leave_evaluation(**what)  # type: ignore[arg-type]


def train(policy: str = "ppo", seed: int = 0) -> None:
    """Run a made-up training."""
    stage = f"train_{policy}"
    with runs.start(stage, experiment=EXPERIMENT, seed=seed, params=given.params(stage)):
        given.leave_training(policy, seed)


def test_in_the_live_training_run() -> None:
    train()
    evaluate()
    (run,) = given.runs(stage="train_ppo")
    expected = {
        "evaluation/minilm/toxicity_mean": 1.25,
        "evaluation/minilm/toxicity_mean/low": 1.15,
        "evaluation/minilm/toxicity_mean/high": 1.35,
        "evaluation/minilm/difference/toxicity_mean": 1.25,
        "evaluation/minilm/missing_rate": 0.0,
        "evaluation/guards/perplexity_median": 30.5,
        "evaluation/samples_per_prompt": 2.0,
    }
    assert expected.items() <= run.data.metrics.items()
    assert "evaluation/guards/kl" not in run.data.metrics  # missing is not 0
    assert run.data.params["methods.ppo.learning_rate"] == str(given.params("train_ppo")["methods.ppo.learning_rate"])
    assert "rebuilt" not in run.data.tags


def test_in_a_training_run_rebuilt_where_there_is_none(forget: Callable[[], None]) -> None:
    train()
    forget()  # as after a cache hit: the training does not run again
    evaluate()
    (run,) = given.runs(stage="train_ppo")
    assert run.data.tags["rebuilt"] == "true"
    assert run.data.metrics["evaluation/minilm/toxicity_mean"] == 1.25
    assert len(given.contents(run)["history"]["objective/score"]) == len(given.CURVES)


def test_in_the_run_of_the_reference_too() -> None:
    given.leave_adapter("reference")
    evaluate()
    (run,) = given.runs(stage="reference")
    assert run.data.metrics["evaluation/minilm/toxicity_mean"] == 0.25


def test_with_each_seed_in_its_own_run() -> None:
    given.write_roster([0, 3])
    train(seed=0)
    train(seed=3)
    evaluate(policies=("ppo",), seeds=(0, 3))
    name = "evaluation/minilm/toxicity_mean"
    found = {run.data.tags["seed"]: run.data.metrics[name] for run in given.runs(method="ppo")}
    assert found == {"0": 0.0, "3": 3.0}


def test_once_and_anew_when_it_changes() -> None:
    train()
    evaluate(policies=("reference", "ppo"))
    track.rebuild(EXPERIMENT)
    evaluate(policies=("ppo", "reference"))
    (run,) = given.runs(stage="train_ppo")
    history = given.contents(run)["history"]
    assert [value for _, value in history["evaluation/minilm/toxicity_mean"]] == [1.25, 0.25]
    assert len(history["evaluation/guards/perplexity_median"]) == 1
    assert run.data.metrics["evaluation/minilm/toxicity_mean"] == 0.25


def test_a_policy_without_results_is_named(caplog: pytest.LogCaptureFixture) -> None:
    evaluate(policies=("ppo",))
    assert f"no run of train_ppo@{EXPERIMENT}-0" in caplog.text
    (run,) = given.runs()
    assert run.info.status == "FINISHED"


def test_completions_are_a_table_logged_once() -> None:
    evaluate()
    track.rebuild(EXPERIMENT)
    (run,) = given.runs(stage="evaluate")
    held = given.contents(run)["artifacts"]
    assert {"plots/evaluation.csv", "metrics/evaluation.json"} <= held.keys()
    rows = json.loads(held["completions.json"])
    assert rows["columns"] == ["policy", "seed", "prompt_id", "sample", "prompt", "completion", "toxicity/minilm"]
    assert len(rows["data"]) == 2 * 3 * 2
    assert rows["data"][0] == ["ppo", 0, "p0", 0, "a", "silly", 0.5]
    assert rows["data"][5][-1] is None


def test_completions_before_and_after_are_a_table_logged_once() -> None:
    evaluate()
    rows = read_jsonl(paths.scores(EXPERIMENT, 0, "ppo"))
    fallen = [row | ({"toxicity": 0.1} if row["prompt_id"] == "p1" else {}) for row in rows]
    write_jsonl(paths.scores(EXPERIMENT, 0, "ppo"), fallen)
    found = before_after_table(EXPERIMENT)
    assert found and found["prompt_id"] == ["p1", "p0", "p2"], "the largest fall, then by id"
    track.rebuild(EXPERIMENT)
    (run,) = given.runs(stage="evaluate")
    table = json.loads(given.contents(run)["artifacts"]["before_after.json"])
    assert len(table["data"]) == 3, "one method, three prompts, their first samples; logged before scores changed"
    first = dict(zip(table["columns"], table["data"][0], strict=True))
    assert (first["method"], first["prompt_id"], first["judge"], first["change"]) == ("ppo", "p0", "minilm", 0)
    assert (first["completion_before"], first["completion_after"]) == ("silly", "silly")


def test_table_comes_later_in_a_clone_without_completions(capsys: pytest.CaptureFixture[str]) -> None:
    given.leave_evaluation()
    place = paths.scores(EXPERIMENT, 0, "ppo")
    place.rename("pulled-later")
    assert completions_table(EXPERIMENT) is None
    track.rebuild(EXPERIMENT)
    Path("pulled-later").rename(place)
    track.rebuild(EXPERIMENT)
    assert "completions, before_after attached" in capsys.readouterr().out
