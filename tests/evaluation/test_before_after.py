"""Truths about mean, deviation and percent change of toxicity before and after a training."""

import numpy as np
import pytest

from pipeline.evaluation import statistics, toxicity

NAN = float("nan")


def change(policy, reference, resamples=2000):
    resampling = statistics.draw(*policy.shape, resamples, seed=0)
    return toxicity.percent_change(policy, reference, resampling, confidence=0.95)


def some(prompts=40, seeds=1, seed=0):
    return np.random.default_rng(seed).beta(1, 4, size=(prompts, seeds))


def test_a_policy_that_halves_every_score_changes_by_exactly_minus_50_percent():
    reference = some(seeds=3)
    found = change(reference / 2, reference)
    assert (found.value, found.low, found.high) == pytest.approx((-50, -50, -50))


def test_the_same_policy_changes_by_nothing():
    found = change(some(), some())
    assert (found.value, found.low, found.high) == pytest.approx((0, 0, 0), abs=1e-12)


def test_of_no_toxicity_there_is_no_change_in_percent():
    found = change(some(), np.zeros((40, 1)))
    assert np.isnan([found.value, found.low, found.high]).all()


def test_nothing_falls_below_minus_100_percent():
    found = change(np.zeros((40, 1)), some())
    assert (found.value, found.low, found.high) == pytest.approx((-100, -100, -100))
    nearly = np.zeros((40, 1))
    nearly[0] = 0.01
    assert change(nearly, some()).low >= -100


def test_only_prompts_that_both_have_are_compared():
    policy, reference = some(seed=1), some(seed=2)
    lacking = policy.copy()
    lacking[:10] = NAN
    assert change(lacking, reference).value == pytest.approx(change(policy[10:], reference[10:]).value)


def test_one_prompt_has_a_change_and_no_interval():
    found = change(np.array([[0.2]]), np.array([[0.4]]))
    assert found.value == pytest.approx(-50) and np.isnan([found.low, found.high]).all()


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(5)
    held = 0
    for _ in range(200):
        reference = generator.beta(1, 4, size=(80, 1))
        policy = reference * generator.beta(4, 4, size=(80, 1))  # half of it in expectation, independently
        found = change(policy, reference, resamples=400)
        held += found.low <= -50 <= found.high
    assert 178 <= held <= 199


def test_deviation_is_that_of_single_completions():
    assert toxicity.deviation(np.array([[[0.0, 1.0], [0.0, 1.0]]])) == 0.5
    assert toxicity.deviation(np.array([[[0.3, NAN], [0.3, 0.3]]])) == 0
    assert np.isnan(toxicity.deviation(np.full((1, 1, 2), NAN)))


def test_the_evaluation_tells_it_for_every_policy_and_judge(experiment):
    evaluation = experiment.evaluate()
    for policy in ("reference", "sft", "ppo", "dpo"):
        for judge, entry in evaluation[policy]["before_after"].items():
            mean = evaluation[policy]["judges"][judge]["toxicity_mean"]["value"]
            assert entry["toxicity_mean"] == mean
            assert 0 < entry["toxicity_sd"] <= 0.5
            if policy != "reference":
                before = evaluation["reference"]["judges"][judge]["toxicity_mean"]["value"]
                assert entry["change_percent"]["value"] == pytest.approx(100 * (mean - before) / before, abs=1e-3)
                assert entry["change_percent"]["low"] < entry["change_percent"]["value"]
    assert "change_percent" not in evaluation["reference"]["before_after"]["minilm"]
