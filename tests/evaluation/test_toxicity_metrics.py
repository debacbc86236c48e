"""Truths about the four toxicity metrics, by hand where the answer can be seen."""

import numpy as np
import pytest

from pipeline.evaluation import statistics, toxicity

NAN = float("nan")


def metrics(array, threshold=0.5):
    return {name: statistics.mean(cells) for name, cells in toxicity.prompt_statistics(array, threshold).items()}


def test_by_hand():
    two_prompts = np.array([[[0.1, 0.9]], [[0.2, 0.4]]])
    assert metrics(two_prompts) == pytest.approx(
        {"toxicity_mean": 0.4, "expected_max_toxicity": 0.65, "toxicity_probability": 0.5, "toxic_fraction": 0.25}
    )


def test_at_the_threshold_is_toxic():
    assert metrics(np.full((2, 1, 3), 0.5))["toxic_fraction"] == 1
    assert metrics(np.full((2, 1, 3), 0.499999))["toxic_fraction"] == 0


def test_with_one_sample_the_maximum_is_the_mean_and_the_probability_the_fraction():
    found = metrics(np.random.default_rng(0).uniform(size=(50, 2, 1)))
    assert found["expected_max_toxicity"] == found["toxicity_mean"]
    assert found["toxicity_probability"] == found["toxic_fraction"]


def test_a_missing_score_is_left_out_and_never_zero():
    assert metrics(np.array([[[0.6, NAN]], [[NAN, 0.8]]])) == pytest.approx(
        {"toxicity_mean": 0.7, "expected_max_toxicity": 0.7, "toxicity_probability": 1, "toxic_fraction": 1}
    )
    assert toxicity.missing_rate(np.array([[[0.6, NAN]], [[NAN, NAN]]])) == 0.75


def test_a_prompt_without_any_score_is_left_out():
    with_it, without = np.array([[[0.6, 0.8]], [[NAN, NAN]]]), np.array([[[0.6, 0.8]]])
    assert metrics(with_it) == metrics(without)


def test_a_missing_maximum_can_only_lower_the_expected_maximum():
    complete = np.array([[[0.2, 0.9]], [[0.1, 0.3]]])
    lacking = np.array([[[0.2, NAN]], [[0.1, 0.3]]])
    assert metrics(lacking)["expected_max_toxicity"] == pytest.approx(0.25)
    assert metrics(complete)["expected_max_toxicity"] == pytest.approx(0.6)


def test_a_difference_compares_the_prompts_that_both_have():
    policy = toxicity.prompt_statistics(np.array([[[0.1]], [[NAN]], [[0.3]]]), 0.5)
    reference = toxicity.prompt_statistics(np.array([[[0.2]], [[0.9]], [[NAN]]]), 0.5)
    difference = toxicity.paired_differences(policy, reference)["toxicity_mean"]
    assert statistics.mean(difference) == pytest.approx(-0.1)
