"""What a comparison calls beyond noise, and what it refuses to compare."""

from typing import Any

import numpy as np
import pytest

from pipeline.apps.diff import snapshot
from pipeline.apps.diff.comparison import ExperimentDiff, compare
from pipeline.apps.diff.noise import independent
from tests.apps.diff.conftest import EXPERIMENT, Repository
from tests.tracking import evaluated

PROMPTS = 120
SPREAD = np.random.default_rng(0).uniform(0, 0.5, PROMPTS)  # prompts differ far more than commits do
NOISE = np.random.default_rng(1).normal(0, 0.02, PROMPTS)
LESS = {"reference": 0.25, "sft": 0.24}


def judged(repository: Repository, shift: Any, **what: Any) -> None:
    """Write an evaluation of reference and sft in which sft's toxicity is moved by `shift` at every prompt."""
    sft = np.clip(SPREAD + shift, 0, 1)
    toxicity = {"reference": float(SPREAD.mean()), "sft": float(sft.mean())}
    repository.evaluation({"reference": SPREAD.tolist(), "sft": sft.tolist()}, toxicity=toxicity, **what)


def found(old: str = "HEAD", new: str = "workspace") -> ExperimentDiff:
    """Return the comparison of the one experiment."""
    (experiment,) = compare(snapshot(old), snapshot(new))[1]
    return experiment


def line(experiment: ExperimentDiff, what: str = "toxicity by minilm") -> Any:
    """Return the line of sft."""
    (chosen,) = [line for line in experiment.lines if (line.policy, line.what) == ("sft", what)]
    return chosen.change


class TestSamePrompts:
    def test_a_small_change_at_every_prompt_is_beyond_noise(self, repository: Repository) -> None:
        judged(repository, 0.0)
        repository.commit()
        judged(repository, NOISE - 0.01)
        change = line(found())
        assert (change.method, change.beyond_noise) == ("paired by prompt", True)
        assert change.interval.value == pytest.approx(-0.01, abs=0.005)

    def test_the_same_change_is_within_the_noise_of_other_prompts(self, repository: Repository) -> None:
        judged(repository, 0.0)
        repository.git("add", "--all", ":!plots")
        repository.git("commit", "--quiet", "--message", "without prompts.csv")
        judged(repository, NOISE - 0.01)
        change = line(found())
        assert (change.method, change.beyond_noise) == ("independent", False)

    def test_noise_is_within_noise(self, repository: Repository) -> None:
        judged(repository, 0.0)
        repository.commit()
        judged(repository, NOISE - NOISE.mean() + 1e-4)
        change = line(found())
        assert (change.method, change.beyond_noise) == ("paired by prompt", False)

    def test_a_change_that_the_reference_shares_is_none_of_the_difference(self, repository: Repository) -> None:
        judged(repository, 0.0)
        repository.commit()
        moved = np.clip(SPREAD + NOISE - 0.01, 0, 1)
        toxicity = {"reference": float(moved.mean()), "sft": float(moved.mean()) + 1e-4}
        by_prompt = {"reference": moved.tolist(), "sft": (moved + 1e-4 * (-1) ** np.arange(PROMPTS)).tolist()}
        repository.evaluation(by_prompt, toxicity=toxicity)
        experiment = found()
        assert line(experiment).beyond_noise is True
        assert line(experiment, "minus reference by minilm").beyond_noise is False

    def test_other_seeds_are_independent(self, repository: Repository) -> None:
        judged(repository, 0.0)
        repository.commit()
        judged(repository, NOISE - 0.01, seeds=(1,))
        experiment = found()
        assert line(experiment).method == "independent"
        assert any("seeds" in limit for limit in experiment.limits)

    def test_several_seeds_are_paired_by_prompt_and_seed(self, repository: Repository) -> None:
        judged(repository, 0.0, seeds=(0, 1))
        repository.commit()
        judged(repository, NOISE - 0.05, seeds=(0, 1))
        assert line(found()).method == "paired by prompt"


class TestNeverCompared:
    def test_across_k(self, repository: Repository) -> None:
        repository.evaluation(toxicity={"reference": 0.3, "sft": 0.2}, samples=8)
        repository.commit()
        repository.evaluation(toxicity={"reference": 0.3, "sft": 0.1}, samples=25)
        experiment = found()
        assert experiment.obstacles == ["samples_per_prompt 8 → 25"]
        assert experiment.lines == []
        assert experiment.unchanged == 0

    def test_across_prompts(self, repository: Repository) -> None:
        judged(repository, 0.0)
        repository.commit()
        judged(repository, NOISE)
        path = evaluated.paths.plot(EXPERIMENT, "prompts")
        path.write_text(path.read_text().replace("0000000000000003", "00000000000000ff"))
        experiment = found()
        assert experiment.obstacles == ["1 of the prompts are others"]
        assert experiment.lines == []

    def test_across_decodings(self, repository: Repository) -> None:
        repository.evaluation(toxicity=LESS)
        repository.commit()
        changed = evaluated.evaluation(LESS)
        changed["meta"]["decoding"] |= {"top_p": 1.0, "seed": 7}
        evaluated.leave(EXPERIMENT, changed)
        assert found().obstacles == ["decoding.top_p 0.9 → 1.0"]

    def test_a_judge_whose_hash_is_another(self, repository: Repository) -> None:
        repository.evaluation(toxicity=LESS)
        repository.commit()
        repository.evaluation(toxicity={"reference": 0.25, "sft": 0.1}, judge_digest="c" * 64)
        experiment = found()
        assert experiment.limits == ["judge minilm is another: its numbers are not compared"]
        assert {line.what for line in experiment.lines if "by" in line.what} == {
            f"{what} by {judge}" for what in ("toxicity", "minus reference") for judge in ("profanity", "words")
        }

    @pytest.mark.parametrize(
        ("changed", "left_out"), [("identity", {"identity_perplexity"}), ("probe", {"piqa_accuracy"}), ("lora", set())]
    )
    def test_values_measured_with_other_parameters(
        self, repository: Repository, changed: str, left_out: set[str]
    ) -> None:
        repository.evaluation(toxicity=LESS)
        repository.commit()
        moved = evaluated.evaluation(LESS)
        for guard in moved["sft"]["guard_checks"].values():
            guard["change"] = evaluated.interval(0.5)
        evaluated.leave(EXPERIMENT, moved)
        repository.parameters({"identity": {"terms": ["a"]}} if changed == "identity" else {changed: {"seed": 1}})
        watched = {line.what.removesuffix(" minus reference") for line in found().lines if line.policy == "sft"}
        assert watched == set(evaluated.LIMITS) - left_out


def test_equal_numbers_are_counted_and_not_listed(repository: Repository) -> None:
    repository.evaluation(toxicity=LESS)
    repository.commit()
    experiment = found()
    assert experiment.is_empty
    assert experiment.unchanged > 20
    repository.evaluation(toxicity={"reference": 0.25, "sft": 0.1})
    changed = found()
    assert changed.unchanged + len(changed.lines) == experiment.unchanged
    assert {line.policy for line in changed.lines} == {"sft"}


def test_missing_numbers_are_not_known(repository: Repository) -> None:
    repository.evaluation(toxicity=LESS)
    repository.commit()
    changed = evaluated.evaluation(LESS)
    changed["sft"]["judges"]["minilm"]["toxicity_mean"] = {"value": None, "low": None, "high": None}
    evaluated.leave(EXPERIMENT, changed)
    assert line(found()).beyond_noise is None


def test_independent_intervals_hold_the_true_change_as_often_as_they_say() -> None:
    random = np.random.default_rng(0)
    errors = {"old": 0.03, "new": 0.01}
    held, tries = 0, 4000
    for _ in range(tries):
        sides = []
        for truth, error in ((0.3, errors["old"]), (0.2, errors["new"])):
            value = random.normal(truth, error)
            sides.append({"value": value, "low": value - 1.96 * error, "high": value + 1.96 * error})
        change = independent(*sides).interval
        held += change.low <= -0.1 <= change.high
    assert held / tries == pytest.approx(0.95, abs=0.012)
