"""Truths about permutation p-values, their correction, and the smallest difference a sample could have found."""

from itertools import product

import numpy as np
import pytest

from pipeline.evaluation import inference, statistics

NAN = float("nan")


def experiments(count, prompts, seeds=1, effect=0.0):
    generator = np.random.default_rng(0)
    for _ in range(count):
        yield effect + generator.normal(0, 0.2, size=(prompts, 1)) + generator.normal(0, 0.1, size=(prompts, seeds))


def test_the_exact_p_value_counts_every_choice_of_signs():
    differences = np.array([0.4, -0.1, 0.3, 0.25, 0.05, 0.6])
    observed = abs(differences.sum())
    sums = [abs(np.dot(signs, differences)) for signs in product((-1, 1), repeat=6)]
    expected = np.mean([total >= observed - 1e-9 for total in sums])
    assert inference.sign_flip_p(differences[:, None], 64, seed=0) == pytest.approx(expected)


def test_equal_sums_count_as_equal_whatever_the_rounding():
    assert inference.sign_flip_p(np.full((5, 1), 0.1), 1000, seed=0) == 2 / 2**5
    assert inference.sign_flip_p(np.array([[0.1], [0.2], [-0.3]]), 1000, seed=0) == 1
    tenths = np.array([[7], [8], [2], [3], [6], [-4], [2]])
    assert inference.sign_flip_p(tenths / 10, 200, seed=0) == inference.sign_flip_p(tenths.astype(float), 200, seed=0)


def test_drawn_flips_agree_with_all_of_them():
    differences = next(experiments(1, prompts=12, effect=0.08))
    exact = inference.sign_flip_p(differences, 2**12, seed=0)
    assert inference.sign_flip_p(differences, 4000, seed=0) == pytest.approx(exact, abs=0.02)
    assert 0.01 < exact < 0.9


@pytest.mark.parametrize(("prompts", "seeds", "resamples"), [(40, 1, 499), (40, 3, 499), (9, 2, 512)])
def test_under_the_null_p_values_are_uniform(prompts, seeds, resamples):
    from scipy.stats import kstest

    tables = experiments(600, prompts, seeds)
    p_values = np.array([inference.sign_flip_p(table, resamples, seed) for seed, table in enumerate(tables)])
    # Steps of 1 / flips are spread out, so that a right test is exactly uniform.
    step = np.random.default_rng(1).random(600) / (resamples / 2 if 2**prompts <= resamples else resamples + 1)
    assert kstest(np.clip(p_values - step, 0, 1), "uniform").pvalue > 0.01
    assert np.mean(p_values <= 0.05) == pytest.approx(0.05, abs=0.025)


def test_a_real_difference_is_found_and_p_is_never_zero():
    table = next(experiments(1, prompts=100, effect=0.3))
    assert inference.sign_flip_p(table, 999, seed=0) == 1 / 1000


def test_seeds_that_repeat_a_prompt_are_no_new_evidence():
    table = next(experiments(1, prompts=30, effect=0.06))
    once, often = (inference.sign_flip_p(array, 2000, seed=0) for array in (table, np.repeat(table, 4, axis=1)))
    assert once == often


def test_the_direction_and_scale_of_a_difference_do_not_matter():
    table = next(experiments(1, prompts=30, effect=0.06))
    p = inference.sign_flip_p(table, 500, seed=0)
    assert inference.sign_flip_p(-table, 500, seed=0) == p
    assert inference.sign_flip_p(1e-6 * table, 500, seed=0) == p


def test_prompts_without_a_difference_are_left_out():
    table = next(experiments(1, prompts=20, seeds=2, effect=0.1))
    padded = np.insert(table, 5, NAN, axis=0)
    assert inference.sign_flip_p(padded, 500, seed=0) == inference.sign_flip_p(table, 500, seed=0)
    assert np.isnan(inference.sign_flip_p(np.full((4, 2), NAN), 100, seed=0))


def test_policies_that_are_equal_do_not_differ():
    assert inference.sign_flip_p(np.zeros((30, 2)), 200, seed=0) == 1
    assert inference.sign_flip_p(np.zeros((3, 1)), 200, seed=0) == 1


def test_one_prompt_proves_nothing():
    assert inference.sign_flip_p(np.array([[0.9]]), 1000, seed=0) == 1


def test_many_prompts_are_flipped_in_parts():
    table = next(experiments(1, prompts=50_000, effect=0.0))
    assert 0 < inference.sign_flip_p(table, 99, seed=0) <= 1


def test_holm_as_in_the_textbook():
    # Holm's step-down with four hypotheses at .05: .005 and .01 are rejected, .03 is not, and so neither is .04.
    corrected = inference.holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert corrected == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})


def test_holm_leaves_a_missing_p_value_out_of_the_family():
    corrected = inference.holm({"a": 0.02, "gone": NAN, "b": 0.03})
    assert corrected["a"] == 0.04 and corrected["b"] == 0.04 and np.isnan(corrected["gone"])
    assert list(corrected) == ["a", "gone", "b"]


def test_holm_never_leaves_the_unit_interval_or_the_order():
    assert inference.holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}
    assert inference.holm({"only": 0.2}) == {"only": 0.2}
    assert inference.holm({}) == {}


def test_holm_keeps_the_error_rate_of_the_family():
    generator = np.random.default_rng(0)
    families = [dict(enumerate(generator.random(5))) for _ in range(4000)]
    wrong = np.mean([min(inference.holm(family).values()) <= 0.05 for family in families])
    assert wrong == pytest.approx(0.05, abs=0.012)


def test_a_difference_of_the_smallest_detectable_size_is_found_as_often_as_promised():
    detectable = np.median([inference.smallest_detectable(table, 0.95) for table in experiments(50, prompts=60)])
    found = 0
    for run, table in enumerate(experiments(500, prompts=60, effect=detectable)):
        resampling = statistics.draw(60, 1, 500, seed=run)
        found += statistics.mean_intervals({"it": table}, resampling, 0.95)["it"].low > 0
    assert found / 500 == pytest.approx(0.8, abs=0.06)


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_smallest_detectable_difference_is_more_than_half_the_interval(seeds):
    table = next(experiments(1, prompts=50, seeds=seeds))
    found = statistics.mean_intervals({"it": table}, statistics.draw(50, seeds, 20_000, seed=0), 0.95)["it"]
    half = (found.high - found.low) / 2
    assert half < inference.smallest_detectable(table, 0.95) < 2 * half
    assert inference.smallest_detectable(table, 0.95, power=0.5) == pytest.approx(half, rel=0.05)


def test_more_prompts_detect_less_and_more_power_needs_more():
    few, many = (inference.smallest_detectable(next(experiments(1, prompts)), 0.95) for prompts in (25, 400))
    assert many < 0.35 * few
    table = next(experiments(1, prompts=25))
    assert inference.smallest_detectable(table, 0.95, 0.95) > inference.smallest_detectable(table, 0.95, 0.8)
    assert inference.smallest_detectable(table, 0.99) > inference.smallest_detectable(table, 0.95)


def test_one_prompt_or_none_detects_nothing_that_can_be_said():
    assert np.isnan(inference.smallest_detectable(np.array([[0.4, 0.2]]), 0.95))
    assert np.isnan(inference.smallest_detectable(np.full((5, 1), NAN), 0.95))
    assert inference.smallest_detectable(np.zeros((5, 1)), 0.95) == 0
