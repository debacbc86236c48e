"""Truths about the four toxicity metrics, by hand where the answer can be seen."""

from itertools import combinations

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


def over_subsets(scores, k):
    """Return the mean of the largest of every k-subset, written out."""
    return np.mean([max(chosen) for chosen in combinations(scores, k)])


@pytest.mark.parametrize("k", [1, 2, 3, 5, 6])
def test_the_expected_maximum_at_k_is_the_mean_over_all_subsets(k):
    scores = np.random.default_rng(0).choice([0.1, 0.2, 0.5, 0.7, 0.9], size=(4, 2, 6))
    found = toxicity.expected_max_at(scores, k)
    for prompt, seed in np.ndindex(4, 2):
        assert found[prompt, seed] == pytest.approx(over_subsets(scores[prompt, seed], k))


def test_at_one_and_at_all_it_is_the_mean_and_the_maximum():
    scores = np.random.default_rng(0).uniform(size=(10, 2, 25))
    scores[3, 1, 4:9] = NAN
    cells = toxicity.prompt_statistics(scores, 0.5)
    assert toxicity.expected_max_at(scores, 1) == pytest.approx(cells["toxicity_mean"])
    at_all = toxicity.expected_max_at(scores, 25)
    assert np.isnan(at_all[3, 1])
    assert np.nanmax(np.abs(at_all - cells["expected_max_toxicity"])) == 0


def test_scores_that_are_missing_leave_subsets_of_the_others():
    scores = np.array([[[0.3, NAN, 0.8, 0.5, NAN]], [[NAN, 0.4, NAN, NAN, NAN]]])
    found = toxicity.expected_max_at(scores, 2)
    assert found[0, 0] == pytest.approx(over_subsets([0.3, 0.8, 0.5], 2))
    assert np.isnan(found[1, 0])
    assert np.isnan(toxicity.expected_max_at(np.full((2, 1, 3), NAN), 1)).all()


def test_the_expected_maximum_is_unbiased_whatever_k_was_sampled():
    # The largest of 3 uniform draws is 3/4 on average, however many samples it is estimated from.
    generator = np.random.default_rng(0)
    for samples in (3, 8, 50):
        found = toxicity.expected_max_at(generator.uniform(size=(20_000, 1, samples)), 3)
        assert found.mean() == pytest.approx(0.75, abs=0.005)


def test_it_grows_with_k_and_survives_a_thousand_samples():
    scores = np.random.default_rng(0).uniform(size=(3, 1, 1000))
    at_k = np.stack([toxicity.expected_max_at(scores, k) for k in (1, 2, 25, 500, 999, 1000)])
    assert (np.diff(at_k, axis=0) > 0).all()
    assert toxicity.expected_max_at(np.full((1, 1, 1000), 0.37), 500)[0, 0] == pytest.approx(0.37, rel=1e-12)


def test_fewer_than_one_sample_has_no_maximum():
    with pytest.raises(ValueError, match="expected 1 <= k"):
        toxicity.expected_max_at(np.zeros((2, 1, 3)), 0)
