"""What a reader of the runs table needs: names, one column to sort by, a sentence on each run, and the report."""

import logging
import os
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.apps import track
from pipeline.io import paths
from pipeline.tracking import runs
from tests.tracking import evaluated
from tests.tracking import made_up as given

EXPERIMENT = given.EXPERIMENT
METHODS = ("sft", "ppo", "dpo")
NOTE = "mlflow.note.content"
pytestmark = pytest.mark.usefixtures("repository")


def train(seed: int = 0) -> None:
    """Leave reference and trainings of a seed, shown as runs."""
    given.leave_adapter("reference", seed)
    for method in METHODS:
        stage = f"train_{method}"
        with runs.start(stage, experiment=EXPERIMENT, seed=seed, params=given.params(stage)):
            given.leave_training(method, seed)


def evaluate(write: Callable[[], None] | None = None, **what: Any) -> None:
    """Run a made-up evaluation; `write` writes more files at its end."""
    with runs.start("evaluate", experiment=EXPERIMENT, params=given.params("evaluate")):
        evaluated.leave(EXPERIMENT, evaluated.evaluation(**what))
        if write:
            write()


def sorted_by(metric: str) -> list[str]:
    """Return the names of the runs that have a metric, lowest first, as the table sorts them."""
    experiment = given.client().get_experiment_by_name(EXPERIMENT)
    found = given.client().search_runs([experiment.experiment_id], order_by=[f"metrics.{metric} ASC"])
    return [run.info.run_name for run in found if metric in run.data.metrics]


def test_every_policy_s_run_is_sorted_by_the_same_plain_metric() -> None:
    train()
    evaluate(failed={"dpo": "distinct_2"})
    assert sorted_by("toxicity_mean") == ["sft", "ppo", "dpo", "reference"]
    assert sorted_by("toxicity_difference") == ["sft", "ppo", "dpo"]
    passed = {run.info.run_name: run.data.metrics.get("guards_passed") for run in given.runs()}
    assert passed == {"sft": 1.0, "ppo": 1.0, "dpo": 0.0, "reference": 1.0, "evaluate": None}


def test_with_several_seeds_each_run_has_its_name_and_its_own_number() -> None:
    given.write_roster([0, 2])
    train(seed=0)
    train(seed=2)
    evaluate(seeds=(0, 2))
    found = {run.info.run_name: run.data.metrics.get("toxicity_mean") for run in given.runs()}
    assert found["sft"] == 0.21
    assert found["sft-seed-2"] == pytest.approx(0.212)


def test_a_description_says_what_a_run_is_and_what_came_of_it() -> None:
    train()
    (before,) = given.runs(method="dpo")
    evaluate(failed={"dpo": "distinct_2"})
    (after,) = given.runs(method="dpo")
    assert before.data.tags[NOTE] in after.data.tags[NOTE]
    assert "DPO" in before.data.tags[NOTE] and "Verdict" not in before.data.tags[NOTE]
    assert "**Verdict: not a win**" in after.data.tags[NOTE] and "0.230 [0.200, 0.260]" in after.data.tags[NOTE]
    (evaluation,) = given.runs(stage="evaluate")
    assert "**Champion: sft**" in evaluation.data.tags[NOTE]


def test_a_description_that_somebody_wrote_stays() -> None:
    train()
    (run,) = given.runs(method="dpo")
    given.client().set_tag(run.info.run_id, NOTE, "the one for the paper")
    evaluate()
    track.rebuild(EXPERIMENT)
    (run,) = given.runs(method="dpo")
    assert run.data.tags[NOTE] == "the one for the paper"


def test_an_evaluation_shows_what_belongs_to_no_policy() -> None:
    train()
    evaluate()
    (run,) = given.runs(stage="evaluate")
    shown = run.data.metrics
    assert shown["comparisons/sft/reference/p_holm"] == 0.0012
    assert shown["baselines/best_of_k/judges/minilm/toxicity_mean/value"] == 0.23
    assert shown["agreement/minilm/profanity/kappa"] == 0.4
    assert {name.split("/")[0] for name in shown} == {"comparisons", "baselines", "agreement"}
    assert "metrics/evaluation.json" in given.contents(run)["artifacts"]  # all of it


def test_a_policy_s_run_shows_its_numbers_and_not_every_breakdown() -> None:
    train()
    evaluate()
    (run,) = given.runs(method="sft")
    shown = run.data.metrics
    assert shown["evaluation/profanity/difference/toxicity_mean/low"] == pytest.approx(-0.09)
    assert shown["evaluation/hacking/minilm/gap"] == 0.01
    assert shown["evaluation/guard_checks/distinct_2/change"] == 0.02
    assert not [name for name in shown if set(name.split("/")) & {"seeds", "categories", "emt_at_k", "min", "max"}]


def test_a_rebuilt_run_says_the_same(forget: Callable[[], None]) -> None:
    train()
    evaluate()
    before = {run.info.run_name: (run.data.tags[NOTE], run.data.metrics) for run in given.runs(seed="0")}
    forget()
    track.rebuild(EXPERIMENT)
    track.rebuild(EXPERIMENT)
    after = {run.info.run_name: (run.data.tags[NOTE], run.data.metrics) for run in given.runs(seed="0")}
    assert after == before | {"reference": after["reference"]}


class TestReport:
    def test_is_an_artifact_of_the_evaluation(self) -> None:
        evaluate(leave_report)
        (run,) = given.runs(stage="evaluate")
        held = given.contents(run)["artifacts"]
        assert held["report/index.html"] == b"<p>0</p>"
        assert held["report/figures/toxicity.svg"] == b"<svg/>"

    def test_is_logged_anew_when_it_changed_and_not_otherwise(self, capsys: pytest.CaptureFixture[str]) -> None:
        evaluate(leave_report)
        track.rebuild(EXPERIMENT)
        assert line("evaluate", capsys).endswith(": present")
        leave_report(1)  # of the same size
        track.rebuild(EXPERIMENT)
        assert line("evaluate", capsys).endswith(": report attached")
        (run,) = given.runs(stage="evaluate")
        assert given.contents(run)["artifacts"]["report/index.html"] == b"<p>1</p>"

    def test_of_an_earlier_evaluation_is_left_out_and_named(self, caplog: pytest.LogCaptureFixture) -> None:
        leave_report()
        os.utime(paths.report(EXPERIMENT) / "index.html", (1, 1))
        with caplog.at_level(logging.WARNING):
            evaluate()
        (run,) = given.runs(stage="evaluate")
        assert not [name for name in given.contents(run)["artifacts"] if name.startswith("report")]
        assert "make report" in caplog.text


def leave_report(number: int = 0) -> None:
    """Write a report."""
    page = paths.report(EXPERIMENT) / "index.html"
    figures = page.parent / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    page.write_text(f"<p>{number}</p>")
    (figures / "toxicity.svg").write_text("<svg/>")


def line(stage: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Return what `make track` printed of a stage."""
    (found,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith(f"{stage}@")]
    return found
