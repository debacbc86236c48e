"""Every named cause: made for real where a training can be broken so, by its statistics where it cannot."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from pipeline.methods.ppo.health import CAUSES, Health
from pipeline.methods.training import Trained
from tests.methods.ppo.tiny_ppo import HARSH, prompts, reward_of, section, trainer_of
from tests.methods.trainings import train
from tests.policy import tiny_llama

HEALTHY = {
    "policy/first_ratio_deviation": 1e-6,
    "objective/kl_k3": 0.005,
    "policy/clip_fraction": 0.1,
    "value/explained_variance": 0.3,
    "objective/entropy": 3.0,
    "objective/finished_rate": 0.5,
    "objective/score_std": 0.4,
    "objective/unscored": 0.0,
}


def constant(texts: Sequence[str]) -> list[float | None]:
    """Give every text the same score."""
    return [0.5] * len(texts)


def training(policy: Any, toxicity: Any = HARSH.score, **changes: Any) -> Trained:
    """Train for a few steps."""
    settings = section(**({"steps": 3} | changes))
    return train(policy, "ppo", prompts(24), settings, reward=reward_of(toxicity))


def causes_of_a_step(policy: Any, toxicity: Any = HARSH.score, **changes: Any) -> list[str]:
    """Return what is off in the first step."""
    trainer = trainer_of(policy, toxicity, **changes)
    trainer.step(0)
    return trainer.health.last


def causes(*steps: dict[str, float], is_exact: bool = True) -> list[list[str]]:
    """Return what is off in every step, given by what differs from HEALTHY."""
    health = Health(is_exact, expects_eos=False)
    return [health.check(HEALTHY | changes) for changes in steps]


def test_a_healthy_training_has_no_cause(policy: Any, capsys: pytest.CaptureFixture[str]) -> None:
    trained = training(policy, steps=12)
    assert trained.more["health"] == {}
    for row in trained.curves:
        assert {key: value for key, value in row.items() if key.startswith("health/")} == {
            f"health/{cause}": 0.0 for cause in CAUSES
        }
    assert not [line for line in capsys.readouterr().err.splitlines() if line.startswith("ppo step")]


def test_dropout_that_stays_on_is_a_ratio_that_is_not_one(workplace: Any) -> None:
    policy = tiny_llama.new_policy(dropout=0.5)
    torch.manual_seed(0)
    tiny_llama.perturb(policy.model)  # a fresh adapter adds nothing that could be dropped
    trainer = trainer_of(policy)
    policy.model.train()
    trainer.step(0)
    assert "ratio_not_one" in trainer.health.last


@pytest.mark.parametrize("altered", [lambda logprobs: logprobs / 0.7, lambda logprobs: logprobs - 0.1])
def test_probabilities_of_a_cooled_or_truncated_sampler_are_a_ratio_that_is_not_one(
    policy: Any, altered: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    analyze = policy.analyze

    def otherwise(items: Any, *, recall: bool = False) -> Any:
        found = analyze(items, recall=recall)
        return found._replace(logprobs=altered(found.logprobs)) if recall else found

    policy.analyze = otherwise
    assert "ratio_not_one" in causes_of_a_step(policy)


def test_a_scorer_that_says_the_same_of_everything_is_named(policy: Any) -> None:
    assert causes_of_a_step(policy, constant) == ["scores_all_equal"]


def test_no_completion_that_ends_is_named_only_where_it_is_penalised(workplace: Any) -> None:
    tiny_llama.write_base(end_bias=-20.0)
    assert causes_of_a_step(tiny_llama.new_policy(), missing_eos_penalty=0.5) == ["eos_missing"]
    assert causes_of_a_step(tiny_llama.new_policy(), missing_eos_penalty=0.0) == []


def test_one_completion_that_ends_is_enough(workplace: Any) -> None:
    tiny_llama.write_base(end_bias=0.9)
    assert causes_of_a_step(tiny_llama.new_policy(), missing_eos_penalty=0.5) == []


def test_a_text_without_a_score_is_named(policy: Any) -> None:
    assert causes_of_a_step(policy, lambda texts: [None, *HARSH.score(texts[1:])]) == ["unscored"]


def test_a_learning_rate_that_is_too_high_clips_often(policy: Any) -> None:
    assert "clipped_often" in causes_of_a_step(policy, learning_rate=0.02, warmup_steps=0, epochs=20)


def test_a_reference_that_is_another_policy_is_named_at_the_start(policy: Any) -> None:
    torch.manual_seed(0)
    tiny_llama.perturb(policy.model)
    assert causes_of_a_step(policy) == ["kl_at_start"]


def test_kl_is_expected_after_the_first_step() -> None:
    assert causes({"objective/kl_k3": 0.02}, {"objective/kl_k3": 0.02}) == [["kl_at_start"], []]


def test_a_step_without_a_measure_of_the_values_counts_neither_way() -> None:
    worse, missing = {"value/explained_variance": -0.1}, {"value/explained_variance": float("nan")}
    assert causes(*[worse] * 9, missing, worse) == [[]] * 10 + [["values_explain_nothing"]]


@pytest.mark.parametrize(
    "cause, bad, good",
    [
        ("ratio_not_one", {"policy/first_ratio_deviation": 2e-3}, {"policy/first_ratio_deviation": 1e-3}),
        ("negative_k3", {"objective/kl_k3": -1e-4}, {"objective/kl_k3": -1e-9}),
        ("clipped_often", {"policy/clip_fraction": 0.51}, {"policy/clip_fraction": 0.5}),
        ("scores_all_equal", {"objective/score_std": 0.0}, {"objective/score_std": 1e-6}),
        ("unscored", {"objective/unscored": 1.0}, {"objective/unscored": 0.0}),
    ],
)
def test_where_the_line_is(cause: str, bad: dict[str, float], good: dict[str, float]) -> None:
    assert causes(bad, good) == [[cause], []]


def test_a_policy_that_is_not_exact_may_have_ratios_further_from_one() -> None:
    steps = [{"policy/first_ratio_deviation": deviation} for deviation in (0.5, 0.51)]
    assert causes(*steps, is_exact=False) == [[], ["ratio_not_one"]]


def test_values_have_ten_steps_to_become_better_than_a_constant() -> None:
    worse, better = {"value/explained_variance": -0.1}, {"value/explained_variance": 0.0}
    assert causes(*[worse] * 12) == [[]] * 9 + [["values_explain_nothing"]] * 3
    assert causes(*[worse] * 9, better, *[worse] * 10) == [[]] * 19 + [["values_explain_nothing"]]


def test_entropy_collapses_against_the_first_step() -> None:
    steps = [{"objective/entropy": entropy} for entropy in (2.0, 0.51, 0.49, 0.51)]
    assert causes(*steps) == [[], [], ["entropy_collapsed"], []]
    assert causes({"objective/entropy": 0.1}, {"objective/entropy": 0.03}) == [[], []]


def test_several_causes_come_sorted_and_are_counted() -> None:
    health = Health(is_exact=True, expects_eos=True)
    bad = HEALTHY | {"objective/unscored": 3.0, "policy/clip_fraction": 0.9, "objective/finished_rate": 0.0}
    assert health.check(bad) == ["clipped_often", "eos_missing", "unscored"]
    health.check(HEALTHY | {"objective/unscored": 1.0})
    assert health.seen == {"clipped_often": 1, "eos_missing": 1, "unscored": 2}


def test_curves_tell_each_step_and_the_terminal_each_stretch(policy: Any, capsys: pytest.CaptureFixture[str]) -> None:
    broken, calls = {2, 3, 5}, []

    def sometimes(texts: Sequence[str]) -> list[float | None]:
        calls.append(len(texts))
        return (constant if len(calls) in broken else HARSH.score)(texts)

    trained = training(policy, sometimes, steps=6)
    assert [row["step"] for row in trained.curves if row["health/scores_all_equal"] == 1.0] == sorted(broken)
    assert {row["health/scores_all_equal"] for row in trained.curves} == {0.0, 1.0}
    assert trained.more["health"] == {"scores_all_equal": 3}
    lines = [line for line in capsys.readouterr().err.splitlines() if "scores_all_equal" in line]
    assert lines == [f"ppo step {step}: scores_all_equal: {CAUSES['scores_all_equal']}" for step in (2, 5)]
